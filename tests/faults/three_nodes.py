"""A Ray cluster of three nodes on this machine: prints its address, loses a node a line of input, ends with it.

NAME=VALUE, as arguments: the last node's environment.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    options = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    environments = {}, dict(each.split("=", 1) for each in sys.argv[1:])
    nodes = [
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, env_vars=environment)
        for environment in environments
    ]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        print("lost", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
