#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Multiply a matrix with its transpose on a dask cluster and check the sum of the product.

The matrix has the element i + 2j in row i and column j. It is cut into blocks, which are made on the workers and stay there
under a published name, so that a later run on other workers finds them. Each block of the product needs a row of blocks,
which are on many workers: they fetch them from each other.

Prints one JSON object per line: "connected", "registered" and, last, "result". The exit code is 0 if the result is right.
"""

import argparse
import json
import os
import sys
import time

import dask.array as da
import numpy as np
from distributed import Client, get_worker

DATASET = "matrix"
MADE = "made"


def make(block_info=None):
    """Make one block of the matrix, and leave word of it with the scheduler."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    get_worker().log_event(MADE, [top, left])
    return np.add.outer(np.arange(top, bottom), 2 * np.arange(left, right))


def matrix(client, size, blocks):
    """Return the published matrix, made by the first who asks for it."""
    if DATASET in client.list_datasets():
        return client.get_dataset(DATASET)
    chunk = size // blocks
    chunks = ((chunk,) * blocks,) * 2
    made = da.map_blocks(make, chunks=chunks, dtype=np.int64, meta=np.empty((0, 0), dtype=np.int64)).persist()
    client.publish_dataset(made, name=DATASET)
    return made


def expected(size):
    """The sum over the product of the matrix with its transpose is the sum over k of the squared sum of column k."""
    return sum((size * (size - 1) // 2 + 2 * size * k) ** 2 for k in range(size))


def await_workers(client, wanted):
    """Return the workers when there are as many as wanted."""
    while len(workers := client.scheduler_info()["workers"]) != wanted:
        time.sleep(0.1)
    return workers


def fetched(dask_worker):
    """On a worker: how often it fetched blocks from others."""
    return len(dask_worker.transfer_incoming_log)


def tell(event, **values):
    """Print what happened, for programs."""
    print(json.dumps({"event": event, "time": time.time(), **values}), flush=True)


def main():
    """Compute once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheduler", default=os.environ.get("DASK_SCHEDULER_ADDRESS"), help="its address")
    parser.add_argument("--workers", type=int, default=1, help="wait until there are exactly so many")
    parser.add_argument("--size", type=int, default=400, help="rows and columns of the matrix")
    parser.add_argument("--blocks", type=int, default=10, help="cut each of its sides into so many; must divide size")
    args = parser.parse_args()
    if args.blocks < 1 or args.size % args.blocks:
        parser.error("--blocks must divide --size")

    with Client(args.scheduler, timeout="5m") as client:
        tell("connected", scheduler=client.scheduler.address)
        workers = await_workers(client, args.workers)
        tell("registered", workers={worker["name"]: address for address, worker in workers.items()})

        a = matrix(client, args.size, args.blocks)
        got = int((a @ a.T).sum().compute())
        # By the published block that is nearest to its end, straight from the worker that has it.
        last = int(client.gather(client.compute(a[-1, -1]), direct=True))

        # Connections that the scheduler opens: to each worker, and to nannies, which are processes beside them.
        logs = client.get_worker_logs()
        nannies = [address for address, worker in workers.items() if worker["nanny"]]
        nanny_logs = client.get_worker_logs(workers=nannies, nanny=True) if nannies else {}
        tell(
            "result",
            sum=got,
            expected=expected(args.size),
            last=last,
            memory=min(worker["memory_limit"] for worker in workers.values()),
            made=len(client.get_events(MADE)),
            blocks=args.blocks**2,
            fetched=sum(client.run(fetched).values()),
            logs=sum(1 for lines in logs.values() if lines),
            nannies=len(nannies),
            nannyLogs=sum(1 for lines in nanny_logs.values() if lines),
        )
    return 0 if got == expected(args.size) and last == 3 * (args.size - 1) else 1


if __name__ == "__main__":
    sys.exit(main())
