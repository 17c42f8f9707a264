"""What a cluster used is told apart by its parts, and shared by the messages."""

from pathlib import Path

import pytest
from bench.cluster_cost import Kind, cost_of, finding_of, measure_load
from bench.cluster_usage import Parts, Used
from bench.clusters import started_cluster
from bench.rivals.nats_jetstream import RIVAL as NATS


def parts(scale: int) -> Parts:
    """Make figures that are all different."""
    used = [Used(each * scale, 10.0 * each * scale, scale, scale) for each in range(1, 7)]
    return Parts(used[0], used[1], used[2], tuple(used[3:]), 5 * scale, 700 * scale)


def test_followers_share_what_the_leader_does_not() -> None:
    cost = cost_of(parts(300) - parts(100), 100, 4.0, leader=1, behind_s=0.5)

    assert (cost.per_second, cost.records, cost.sent_bytes) == (25.0, 10.0, 1400.0)
    assert (cost.owner.cpu_s, cost.couriers.cpu_s, cost.standby.cpu_s) == (2.0, 4.0, 6.0)
    assert (cost.leader.cpu_s, cost.leader.disk_bytes) == (10.0, 100.0)
    assert (cost.follower.cpu_s, cost.follower.out_bytes) == (10.0, 2.0)  # of 8 and 12


def test_server_alone_has_no_followers() -> None:
    alone = Parts(Used(), Used(), Used(), (Used(1.0),), 10, 100)

    assert cost_of(alone, 10, 1.0, leader=0, behind_s=0.0).follower == Used()


@pytest.mark.usefixtures("wrk")
def test_every_part_of_a_cluster_is_seen(tmp_path: Path) -> None:
    if (why := NATS.missing()) is not None:
        pytest.skip(why)
    kind = Kind("publish", "publish", servers=1, connections=4)
    with started_cluster(tmp_path, kind.servers) as cluster:
        cost = measure_load(cluster, kind, tmp_path, seconds=1, number=0)

    assert all(used.cpu_s > 0 for used in (cost.owner, cost.standby, cost.leader))
    assert 0 < cost.records <= 1.5
    assert cost.sent_bytes > 100
    assert cost.owner.disk_bytes > 0
    assert "publish, 1 connections" not in finding_of({"publish-4": cost}).tables[0].to_text()
