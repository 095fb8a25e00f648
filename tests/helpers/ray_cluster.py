"""Two Ray nodes on this machine, until standard input is closed. Prints the address.

python tests/helpers/ray_cluster.py [CPUS_OF_A_NODE]
"""

from __future__ import annotations

import os
import sys

# A busy machine needs more than 30 s for a node, and work at a niceness of 15, Ray's default, waits for all other work there.
SETTINGS = {"RAY_raylet_start_wait_time_s": "240", "RAY_worker_niceness": "0"}


def main(cpus: str = "1") -> None:
    os.environ.update(SETTINGS)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": int(cpus), "num_gpus": 0, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**node)
    print(cluster.address, flush=True)
    if sys.stdin.readline():  # a line ends the second node
        cluster.remove_node(second)
        print("one node", flush=True)
        sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
