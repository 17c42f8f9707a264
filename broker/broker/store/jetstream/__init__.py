"""A store whose file follows a journal on NATS JetStream.

One broker at a time owns the journal. What its groups write to its file it appends to the journal
first, so that any other broker can make the same file by doing the same, and go on with it: state
machine replication (Schneider, 1990), with a JetStream stream for the log of commands. The stream's
replicas, and not the file, make a group durable.
"""

from broker.store.jetstream.opening import jetstream_store

__all__ = ["jetstream_store"]
