# SPDX-License-Identifier: Apache-2.0
#
# Reads user data and writes what cloud-init makes of it, with cloud-init's own code: the
# merged cloud-config, whether it fits its schema, and the scripts with their names.
import json
import sys

from cloudinit import handlers
from cloudinit.config import schema
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.helpers import Paths
from cloudinit.user_data import UserDataProcessor
from cloudinit.util import clean_filename, decode_binary

paths = Paths({"cloud_dir": "/nonexistent", "run_dir": "/nonexistent"})
merger = CloudConfigPartHandler(paths)
merger.cloud_buf = {}
scripts = {}


def take(_data, filename, payload, headers):
    if headers["Content-Type"] == "text/cloud-config":
        merger._merge_part(payload, headers)
    else:
        scripts[clean_filename(filename)] = decode_binary(payload)


handlers.walk(UserDataProcessor(paths).process(sys.stdin.buffer.read()), take, {})
schema.validate_cloudconfig_schema(merger.cloud_buf, schema.get_schema(), strict=True)
json.dump({"config": merger.cloud_buf, "scripts": scripts}, sys.stdout)
