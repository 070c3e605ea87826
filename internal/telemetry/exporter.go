// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"google.golang.org/grpc/credentials"
)

// exporterOptions follow OpenTelemetry's own variables; the exporter reads those
// by itself. Upstream interLink's variables count only where those are unset.
func exporterOptions() ([]otlptracegrpc.Option, error) {
	options := []otlptracegrpc.Option{otlptracegrpc.WithTimeout(10 * time.Second)}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		return options, nil
	}
	endpoint := os.Getenv("TELEMETRY_ENDPOINT")
	if endpoint == "" {
		endpoint = "localhost:4317"
	}
	endpoint, plain := strings.CutPrefix(endpoint, "http://")
	options = append(options, otlptracegrpc.WithEndpoint(strings.TrimPrefix(endpoint, "https://")))
	config, err := upstreamTLS()
	if err != nil {
		return nil, err
	}
	// Upstream speaks plain text unless a CA file is named.
	if config == nil || plain {
		return append(options, otlptracegrpc.WithInsecure()), nil
	}
	return append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(config))), nil
}

// upstreamTLS is made from upstream's TELEMETRY_* files; nil without a CA file.
func upstreamTLS() (*tls.Config, error) {
	ca := os.Getenv("TELEMETRY_CA_CRT_FILEPATH")
	if ca == "" {
		return nil, nil
	}
	text, err := os.ReadFile(ca) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("TELEMETRY_CA_CRT_FILEPATH: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("TELEMETRY_CA_CRT_FILEPATH: the file holds no certificate")
	}
	config.InsecureSkipVerify = os.Getenv("TELEMETRY_INSECURE_SKIP_VERIFY") == "true" // the operator asked for it
	certificate, key := os.Getenv("TELEMETRY_CLIENT_CRT_FILEPATH"), os.Getenv("TELEMETRY_CLIENT_KEY_FILEPATH")
	if certificate == "" && key == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("TELEMETRY_CLIENT_CRT_FILEPATH with TELEMETRY_CLIENT_KEY_FILEPATH: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
