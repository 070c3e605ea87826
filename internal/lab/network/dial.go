// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Dial connects to address from inside the namespace mounted at path. The host in
// address MUST be an IP address: names would be looked up outside. The connection
// stays in the namespace and can be used from anywhere.
func Dial(ctx context.Context, path, network, address string) (net.Conn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := Do(ctx, path, func() error {
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Dialer is Dial for the namespace mounted at path, in the form that
// http.Transport and rest.Config take.
func Dialer(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return Dial(ctx, path, network, address)
	}
}

// Listen listens on address inside the namespace mounted at path. The host in
// address MUST be an IP address.
func Listen(ctx context.Context, path, network, address string) (net.Listener, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var listener net.Listener
	err := Do(ctx, path, func() error {
		var err error
		listener, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return listener, nil
}

func literal(address string) error {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return fmt.Errorf("address %q: want an IP address and a port", address)
	}
	return nil
}
