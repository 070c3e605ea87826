#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ask a dask scheduler which workers it can spare, let them hand over what they hold, and print their names.

This is what dask's operator does before it deletes the Deployments of these names.
"""

import argparse
import asyncio
import os

from distributed.core import rpc


async def retire(scheduler, count):
    """Retire count workers and return their names."""
    async with rpc(scheduler) as remote:
        names = await remote.workers_to_close(n=count, attribute="name")
        await remote.retire_workers(names=names)
    return names


def main():
    """Retire and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheduler", default=os.environ.get("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786"), help="its address")
    parser.add_argument("count", type=int, help="how many to retire")
    args = parser.parse_args()
    for name in asyncio.run(retire(args.scheduler, args.count)):
        print(name)


if __name__ == "__main__":
    main()
