"""Two Ray nodes on this machine, until standard input is closed. Prints the address.

python tests/helpers/ray_cluster.py [CPUS_OF_A_NODE]

A node waits 15 seconds for its agents to choose ports and 30 for itself, which a busy machine does not keep. So the ports are chosen here
(src/ray/util/port_persistence.h of Ray 2.55), and the other limit is raised.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from typing import Any

PORTS = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")


def node(cpus: str) -> dict[str, Any]:
    """The settings of a node, with ports of its own that are free now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in PORTS]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = {name: one.getsockname()[1] for name, one in zip(PORTS, sockets, strict=True)}
    return {"num_cpus": int(cpus), "num_gpus": 0, "object_store_memory": 100_000_000, "include_dashboard": False, **ports}


def main(cpus: str = "1") -> None:
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=node(cpus))
    second = cluster.add_node(**node(cpus))
    print(cluster.address, flush=True)
    if sys.stdin.readline():  # a line ends the second node
        cluster.remove_node(second)
        print("one node", flush=True)
        sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
