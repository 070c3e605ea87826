# SPDX-License-Identifier: Apache-2.0
"""Makes each of the given SQLite databases one file that is to be used with a write-ahead log."""
import sqlite3
import sys

for path in sys.argv[1:]:
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
