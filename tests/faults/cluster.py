"""A Ray cluster on this machine, of a head that trains nothing and so many nodes that do: prints its address and ends
with its input.

A line `add` has a node join, `lose` kills the one that joined first of those that train; each is printed when it is
done. Arguments: how many train, then, as NAME=VALUE, the environment of the last of them.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    options = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    environments: list[dict[str, str]] = [{} for _ in range(int(sys.argv[1]))]
    for each in sys.argv[2:]:
        name, value = each.split("=", 1)
        environments[-1][name] = value
    nodes = [cluster.add_node(num_cpus=1, **options, env_vars=environment) for environment in environments]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "add\n":
            nodes.append(cluster.add_node(num_cpus=1, **options))
        else:
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
        print(line, end="", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
