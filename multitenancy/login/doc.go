// SPDX-License-Identifier: Apache-2.0

// Package login is what kubectl-openstack does: it logs a person in to Keystone or an OpenID
// provider and writes what kubectl needs into the kubeconfig, hands tokens to kubectl and other
// clients, and takes back what a login has given.
//
// App is the program without its process: its flags, what it prints and its errors, which are
// *ExitError and carry the exit code. The parts are in packages of their own: identity is Keystone,
// clouds the settings that other programs of OpenStack use, kubeconfig the file, tokencache and
// vault what is kept on the machine, device the OpenID login.
package login
