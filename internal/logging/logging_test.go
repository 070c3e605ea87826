// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kubelet "github.com/virtual-kubelet/virtual-kubelet/log"
	"k8s.io/klog/v2" //nolint:depguard // what client-go logs through is under test

	"github.com/cloudveneto/caas/internal/logging"
)

func jsonLogger(t *testing.T, level string) (*slog.Logger, func() []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	logger, err := logging.New(&out, logging.Options{Level: level, Format: "json"})
	require.NoError(t, err)
	return logger, func() []map[string]any {
		var records []map[string]any
		for decoder := json.NewDecoder(&out); decoder.More(); {
			record := map[string]any{}
			require.NoError(t, decoder.Decode(&record))
			delete(record, "time")
			records = append(records, record)
		}
		return records
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options logging.Options
		want    string
	}{
		"bad level":  {logging.Options{Level: "loud", Format: "text"}, `log level "loud"`},
		"bad format": {logging.Options{Level: "info", Format: "xml"}, `log format "xml"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := logging.New(&bytes.Buffer{}, test.options)
			require.ErrorContains(t, err, test.want)
		})
	}
	var out bytes.Buffer
	logger, err := logging.New(&out, logging.Options{Level: "warn", Format: "text"})
	require.NoError(t, err)
	logger.Info("hidden")
	logger.Warn("shown", "podName", "a b")
	assert.NotContains(t, out.String(), "hidden")
	assert.Contains(t, out.String(), `level=WARN msg=shown podName="a b"`)
}

func TestContext(t *testing.T) {
	t.Parallel()
	logger, records := jsonLogger(t, "info")
	logging.From(logging.Into(t.Context(), logger)).Info("here")
	logging.From(t.Context()).Error("a context without a logger discards")
	assert.Equal(t, []map[string]any{{"level": "INFO", "msg": "here"}}, records())
}

func TestKubeletLogger(t *testing.T) {
	t.Parallel()
	logger, records := jsonLogger(t, "debug")
	ctx := logging.IntoKubelet(t.Context(), logger)
	log := kubelet.G(ctx).WithField("pod", "a").WithFields(kubelet.Fields{"node": "n"}).WithError(errors.New("broken"))
	log.Error(errors.New("no string at all"), 42)
	log.Debugf("%d pods", 3)
	kubelet.G(ctx).Info("a", "b")
	kubelet.G(ctx).Warnf("%s", "w")
	kubelet.G(ctx).Fatal("does not exit")
	logging.From(ctx).Info("both find it")
	assert.Equal(t, []map[string]any{
		{"level": "ERROR", "msg": "no string at all 42", "pod": "a", "node": "n", "error": "broken"},
		{"level": "DEBUG", "msg": "3 pods", "pod": "a", "node": "n", "error": "broken"},
		{"level": "INFO", "msg": "ab"},
		{"level": "WARN", "msg": "w"},
		{"level": "ERROR", "msg": "does not exit"},
		{"level": "INFO", "msg": "both find it"},
	}, records())

	quiet, none := jsonLogger(t, "error")
	kubelet.G(logging.IntoKubelet(t.Context(), quiet)).Debug(panicsWhenPrinted{})
	assert.Empty(t, none(), "what is not logged is not formatted")
}

type panicsWhenPrinted struct{}

func (panicsWhenPrinted) String() string { panic("formatted") } //nolint:forbidigo // must not be reached

// TestKlogAndLogr changes klog's process-wide logger, so it is not parallel.
func TestKlogAndLogr(t *testing.T) {
	logger, records := jsonLogger(t, "info")
	logging.CaptureKlog(logger)
	t.Cleanup(klog.ClearLogger)
	klog.InfoS("from klog", "pod", "a")
	klog.Flush()
	logging.Logr(logger).WithName("controller").Info("from logr", "pod", "b")
	got := records()
	require.Len(t, got, 2)
	assert.Equal(t, "from klog", got[0]["msg"])
	assert.Equal(t, "a", got[0]["pod"])
	assert.Equal(t, "from logr", got[1]["msg"])
	assert.Equal(t, "b", got[1]["pod"])
}
