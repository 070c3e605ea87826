# SPDX-License-Identifier: Apache-2.0
"""A mechanism driver for Neutron's ML2 plugin that needs no agent.

Every port is bound where Nova asks for it, as a port of a Linux bridge, and is ACTIVE at once. Which bridge that is
stands in the environment: all networks of the lab share the LAN's.
"""
import os

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class LabDriver(api.MechanismDriver):
    """Binds ports without asking anybody."""

    def initialize(self):
        self._details = {
            portbindings.CAP_PORT_FILTER: False,
            portbindings.VIF_DETAILS_CONNECTIVITY: portbindings.CONNECTIVITY_L2,
        }
        bridge = os.environ.get("CAAS_LAB_BRIDGE")
        if bridge:
            self._details[portbindings.VIF_DETAILS_BRIDGE_NAME] = bridge

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        segment = next(iter(context.segments_to_bind), None)
        if segment is not None:
            context.set_binding(segment[api.ID], portbindings.VIF_TYPE_BRIDGE, dict(self._details),
                                status=constants.PORT_STATUS_ACTIVE)
