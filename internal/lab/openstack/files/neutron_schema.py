# SPDX-License-Identifier: Apache-2.0
"""Makes Neutron's tables in the database whose URL is given.

Neutron's migrations change constraints, which SQLite cannot; its models describe the same tables.
"""
import sys

from neutron.db.migration.models import head
from sqlalchemy import create_engine

head.get_metadata().create_all(create_engine(sys.argv[1]))
