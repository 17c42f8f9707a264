"""Several brokers that share the work of one store: each owns some of its cells."""
