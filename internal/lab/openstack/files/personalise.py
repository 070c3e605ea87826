# SPDX-License-Identifier: Apache-2.0
"""Makes databases copied from a template a site's own. Standard input has what that takes as JSON; what concerns a
database that was not copied is left out:

    keystone: path; endpoints: [what to replace, by what]; passwords: {user: password}
    nova_api: path; cells: {cell: URL of its database}; transport: URL of the message bus

The passwords are hashed as Keystone does: bcrypt, few rounds.
"""
import json
import sqlite3
import sys

import bcrypt

ROUNDS = 4
wanted = json.load(sys.stdin)

if "keystone" in wanted:
    keystone = sqlite3.connect(wanted["keystone"])
    with keystone:
        keystone.execute("update endpoint set url = replace(url, ?, ?)", wanted["endpoints"])
        for name, password in wanted["passwords"].items():
            hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
            changed = keystone.execute(
                "update password set password_hash = ? where local_user_id in (select id from local_user where name = ?)",
                (hashed, name)).rowcount
            if changed != 1:
                sys.exit("%d passwords of user %s" % (changed, name))
    keystone.close()

if "nova_api" in wanted:
    nova = sqlite3.connect(wanted["nova_api"])
    with nova:
        for name, url in wanted["cells"].items():
            changed = nova.execute("update cell_mappings set database_connection = ?, transport_url = ? where name = ?",
                                   (url, wanted["transport"], name)).rowcount
            if changed != 1:
                sys.exit("%d cells called %s" % (changed, name))
    nova.close()
