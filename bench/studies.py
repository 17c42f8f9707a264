"""The studies, in the order in which they run, and what of all there is a run chooses."""

from collections.abc import Sequence

from bench.backlog import measure_backlog
from bench.cases import CASES, Case
from bench.cluster_cost import measure_cluster_cost
from bench.finding import Study
from bench.growth import measure_growth
from bench.many_subscriptions import measure_many_subscriptions
from bench.orders import measure_orders
from bench.pauses import measure_pauses
from bench.payload import measure_payload
from bench.retrying import measure_retrying
from bench.sharing import measure_sharing

STUDIES = (
    Study(
        "backlog",
        "A large backlog",
        "One subscription's endpoint refuses connections, so that all its messages wait. At several"
        " sizes of its backlog, messages are published to the same topic, and go end to end on"
        " another one; in turn with another broker, of which nobody is owed anything. Then the"
        " broker is stopped; the endpoint comes up; the broker starts and delivers everything, 100"
        " messages a webhook.",
        measure_backlog,
    ),
    Study(
        "subscriptions",
        "Many subscriptions",
        "Ten subscriptions a topic. The broker is started with all of them and left alone for a"
        " minute; then a tenth of the topics is published to, so that a tenth of the subscriptions"
        " is busy. Every delivery counts.",
        measure_many_subscriptions,
    ),
    Study(
        "retrying",
        "Beside endpoints that fail",
        "A hundred subscriptions of another topic fail: in the first row their endpoint is down and"
        " nearly all deliveries wait in the log; in the second it takes nothing, and each delivery"
        " has failed once and waits for up to ten minutes. Meanwhile messages go end to end on a"
        " healthy topic, in turn with another broker that has no failing endpoints.",
        measure_retrying,
    ),
    Study(
        "services",
        "An order through four services",
        "The four services run as plain processes, each on a SQLite database of its own. Orders are"
        " POSTed by the clock; the times are those that the services write down themselves, in"
        " milliseconds. Shipments move on at the depot's next look, which it takes every 250 ms."
        " Then eight customers order one after the other; the rate runs to the last notification.",
        measure_orders,
    ),
    Study(
        "payload",
        "Cost by size of the message",
        "End to end as above, on 64 connections, with JSON documents of one size after the other.",
        measure_payload,
    ),
    Study(
        "pauses",
        "The longest pause",
        "500 messages a second by the clock, while retention removes what is older than two seconds"
        " and the log is checkpointed about every second.",
        measure_pauses,
    ),
    Study(
        "sharing",
        "Brokers that share the work",
        "Brokers on NATS JetStream, the store split into cells by topic. 24 topics are published to"
        " at all brokers at once, whoever owns a topic's cell: what reaches another broker is"
        " handed on. The cost is that of all brokers and servers. All of them, loader and endpoint"
        " have the machine's cores in common: that tells what sharing costs, and not what further"
        " machines would bring.",
        measure_sharing,
    ),
    Study(
        "growth",
        "What grows with what",
        "Each row is one thing of which the broker holds much, at two sizes a hundredfold apart, in"
        " brokers of their own. They are started, left alone for two seconds, and then pass"
        " messages from publish to webhook. Cost is processor time, which other work on the"
        " machine disturbs less than rates. A ratio above 1.5 is told as growth.",
        measure_growth,
    ),
    Study(
        "cluster",
        "What a message costs each part of a cluster",
        "Two brokers on three NATS servers, all on this machine: the owner is under load, the other"
        " stands by. Processor time of each process, what the servers say went over the network,"
        " and what each process handed to the disk, shared by the messages; of a follower the mean"
        " of two. Of a few repeats the one that took least of the processor, for other work only"
        " adds. A record is a message of the journal, with all that one group commit has.",
        measure_cluster_cost,
    ),
)
NAMES = [case.name for case in CASES] + [study.name for study in STUDIES]


def chosen_cases(*, full: bool, only: Sequence[str]) -> tuple[Case, ...]:
    """Pick those named in `only`; without names, all or the usual ones."""
    if only:
        return tuple(case for case in CASES if case.name in only)
    return tuple(case for case in CASES if full or not case.full)


def chosen_studies(only: Sequence[str]) -> tuple[Study, ...]:
    """Pick those named in `only`; without names, all."""
    return tuple(study for study in STUDIES if not only or study.name in only)
