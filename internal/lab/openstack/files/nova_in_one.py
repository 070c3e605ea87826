# SPDX-License-Identifier: Apache-2.0
"""Nova's conductor, scheduler, computes and API in one process, so that they need no message broker between them.

    nova_in_one.py --config-file nova.conf

The environment says which computes there are (CAAS_LAB_COMPUTES, names separated by blanks) and which sockets must be
there before they register themselves (CAAS_LAB_AWAIT, HOST:PORT or a path, separated by blanks).
"""
import nova.monkey_patch  # noqa: F401 -- before anything else

import os
import shlex
import socket
import sys

import eventlet
import os_vif
from oslo_log import log as logging
from oslo_privsep import priv_context
from oslo_reports import guru_meditation_report as report_on_signal
from oslo_reports import opts as report_options

import caas_lab_hook
import nova.conf
import nova.virt
from nova import config
from nova import context
from nova import objects
from nova import service
from nova import utils
from nova import version
from nova.compute import rpcapi as compute
from nova.conductor import rpcapi as conductor
from nova.objects import host_mapping
from nova.scheduler.client import report
from nova.scheduler import rpcapi as scheduler

CONF = nova.conf.CONF
PATIENCE, INTERVAL = 120, 0.05


def connect(address):
    if not address.startswith("/"):
        host, port = address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=1)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.connect(address)
    except OSError:
        one.close()
        raise
    return one


def wait_for(address):
    with eventlet.Timeout(PATIENCE):
        while True:
            try:
                connect(address).close()
                return
            except OSError:
                eventlet.sleep(INTERVAL)


def start(binary, topic, host):
    one = service.Service.create(host=host, binary=binary, topic=topic)
    one.start()
    return one


def use_lab_driver():
    # Nova looks for its drivers below nova.virt: compute_driver = caas_lab_hook.LabDriver.
    sys.modules["nova.virt.caas_lab_hook"] = caas_lab_hook
    nova.virt.caas_lab_hook = caas_lab_hook
    # For every server that it takes, a host asks Placement about each one it has, one by one, so that a driver that moves
    # its resources between providers, or PCI tracking in Placement, could move them along. Here is neither.
    report.SchedulerReportClient.get_allocations_for_provider_tree = lambda self, context, nodename: {}


def main():
    config.parse_args(sys.argv)
    if CONF.compute_driver.startswith("caas_lab_hook."):
        use_lab_driver()
    logging.setup(CONF, "nova")
    # SIGUSR2 makes the process tell what all its threads are doing.
    report_options.set_defaults(CONF)
    report_on_signal.TextGuruMeditation.setup_autorun(version, conf=CONF)
    priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
    objects.register_all()
    os_vif.initialize()
    objects.Service.enable_min_version_cache()
    for address in os.environ.get("CAAS_LAB_AWAIT", "").split():
        wait_for(address)

    services = [start("nova-conductor", conductor.RPC_TOPIC, CONF.host), start("nova-scheduler", scheduler.RPC_TOPIC, CONF.host)]
    for host in os.environ["CAAS_LAB_COMPUTES"].split():
        services.append(start("nova-compute", compute.RPC_TOPIC, host))
    host_mapping.discover_hosts(context.get_admin_context(), by_service=True)
    api = service.WSGIService("osapi_compute")
    api.start()
    api.wait()


main()
