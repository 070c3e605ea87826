# SPDX-License-Identifier: Apache-2.0
"""A virt driver for Nova that leaves the machines to a hypervisor behind a Unix socket, which speaks HTTP and JSON.

    POST /v1/servers/UUID/{spawn,destroy,power_on,power_off,reboot}    GET /v1/servers/UUID/console

Whatever else Nova wants to know of a compute host is answered by Nova's own fake driver. The process is monkey-patched by
eventlet: waiting for the hypervisor's answer does not keep other work from going on.

A spawn that is answered with 503 is tried on another host. Any other refusal ends the build, and the server's fault has
the answer's text.
"""
import http.client
import json
import os
import socket

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
from nova.virt import fake
from oslo_serialization import jsonutils

GPU_VENDOR, GPU_PRODUCT = "10de", "20b0"
TIMEOUT = 300
LONGEST_REASON = 1000


class Refused(exception.NovaException):
    msg_fmt = "hypervisor: %(reason)s"

    def __init__(self, status, reason):
        self.status = status
        super().__init__(reason=reason)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("hypervisor", timeout=TIMEOUT)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(method, uuid, verb, body=None):
    """Asks the hypervisor, and returns the bytes of its answer."""
    connection = _Connection(os.environ["CAAS_LAB_HYPERVISOR"])
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, "/v1/servers/%s/%s" % (uuid, verb), payload, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Refused(0, "%s: %s" % (type(error).__name__, error))
    finally:
        connection.close()
    if answer.status // 100 != 2:
        text = data.decode("utf-8", "replace").strip()[-LONGEST_REASON:]
        raise Refused(answer.status, text or "status %d" % answer.status)
    return data


def describe_vif(vif):
    network = vif["network"]
    addresses, gateway = [], ""
    for subnet in network["subnets"]:
        bits = subnet["cidr"].split("/")[1]
        addresses += ["%s/%s" % (ip["address"], bits) for ip in subnet["ips"]]
        if subnet.get("gateway") and subnet["gateway"].get("address"):
            gateway = gateway or subnet["gateway"]["address"]
    return {"port_id": vif["id"], "mac": vif["address"], "network": network["label"], "network_id": network["id"],
            "ips": addresses, "gateway": gateway}


def describe(instance, host, network_info):
    flavor = instance.flavor
    return {
        "uuid": instance.uuid, "name": instance.display_name, "hostname": instance.hostname, "host": host,
        "project_id": instance.project_id, "user_id": instance.user_id,
        "flavor": {"name": flavor.name, "vcpus": flavor.vcpus, "ram": flavor.memory_mb, "disk": flavor.root_gb,
                   "ephemeral": flavor.ephemeral_gb},
        "image": instance.image_ref, "key_name": instance.key_name or "", "key_data": instance.key_data or "",
        "metadata": dict(instance.metadata), "user_data": instance.user_data or "",
        "nics": [describe_vif(vif) for vif in network_info or []],
    }


class LabDriver(fake.FakeDriver):
    """A compute host. Its size is in the environment: CAAS_LAB_CAPACITY=vcpus,MiB,GiB,gpus."""

    def __init__(self, virtapi, read_only=False):
        self.vcpus, self.memory_mb, self.local_gb, self._gpus = (
            int(number) for number in os.environ["CAAS_LAB_CAPACITY"].split(","))
        super().__init__(virtapi, read_only)

    def init_host(self, host):
        super().init_host(host)
        # The machines outlive this process: what the database has of them is what there is.
        for instance in objects.InstanceList.get_by_host(nova_context.get_admin_context(), host):
            if instance.vm_state not in (vm_states.BUILDING, vm_states.DELETED, vm_states.SOFT_DELETED):
                state = power_state.RUNNING if instance.power_state == power_state.RUNNING else power_state.SHUTDOWN
                self._remember(instance, state)

    def _remember(self, instance, state):
        flavor = instance.flavor
        self.resources.claim(vcpus=flavor.vcpus, mem=flavor.memory_mb, disk=flavor.root_gb)
        self.instances[instance.uuid] = fake.FakeInstance(instance.name, state, instance.uuid)

    def _ask(self, verb, instance, network_info=None):
        return call("POST", instance.uuid, verb, describe(instance, self._host, network_info))

    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        for vif in network_info or []:
            self._interfaces[vif["id"]] = vif
        try:
            self._ask("spawn", instance, network_info)
        except Refused as error:
            if error.status == http.client.SERVICE_UNAVAILABLE:
                raise
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=error.format_message())
        self._remember(instance, power_state.RUNNING)

    def destroy(self, context, instance, network_info, block_device_info=None, destroy_disks=True, destroy_secrets=True):
        try:
            self._ask("destroy", instance, network_info)
        except Refused as error:
            if error.status != http.client.NOT_FOUND:
                raise
        if instance.uuid in self.instances:
            super().destroy(context, instance, network_info, block_device_info, destroy_disks)

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None, bad_volumes_callback=None,
               accel_info=None):
        self._ask("reboot", instance, network_info)
        self._set(instance, power_state.RUNNING)

    def power_off(self, instance, timeout=0, retry_interval=0):
        self._ask("power_off", instance)
        self._set(instance, power_state.SHUTDOWN)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None):
        self._ask("power_on", instance, network_info)
        self._set(instance, power_state.RUNNING)

    def _set(self, instance, state):
        if instance.uuid not in self.instances:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        self.instances[instance.uuid].state = state

    def get_console_output(self, context, instance):
        return call("GET", instance.uuid, "console")

    def get_available_resource(self, nodename):
        resources = super().get_available_resource(nodename)
        if resources:
            resources["pci_passthrough_devices"] = jsonutils.dumps([{
                "address": "0000:%02x:00.0" % (0x81 + number), "dev_id": "pci_0000_%02x_00_0" % (0x81 + number),
                "vendor_id": GPU_VENDOR, "product_id": GPU_PRODUCT, "label": "label_%s_%s" % (GPU_VENDOR, GPU_PRODUCT),
                "dev_type": "type-PCI", "status": "available", "parent_addr": None, "numa_node": None,
            } for number in range(self._gpus)])
        return resources
