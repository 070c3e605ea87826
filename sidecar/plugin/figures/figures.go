// SPDX-License-Identifier: Apache-2.0

package figures

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const (
	// resolution is how often metrics servers measure at most.
	resolution = 15 * time.Second
	// askTimeout bounds one question to the cluster, maxAnswer its answer.
	askTimeout = 10 * time.Second
	maxAnswer  = 64 << 20
	// root is the metrics API.
	root = "/apis/metrics.k8s.io/v1beta1"
)

// Config says what a Source works with.
type Config struct {
	// Client reaches the target cluster.
	Client kubernetes.Interface
	Table  *table.Table
	// Namespaces are where created pods can be; "" is all of them.
	Namespaces []string
	// Selector is added to every list, for clusters that demand one.
	Selector string
	// Life is how long an answer of the cluster counts; default 15 seconds.
	Life time.Duration
}

// Source knows what pods use. It may be used by many goroutines at once.
type Source struct {
	config Config
	asking singleflight.Group

	mu   sync.Mutex
	last measurement
}

// measurement is the outcome of one question.
type measurement struct {
	at        time.Time
	available bool
	pods      []podMetrics
}

// podMetrics is what is read of the metrics API's PodMetrics.
type podMetrics struct {
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Timestamp  metav1.Time     `json:"timestamp"`
	Window     metav1.Duration `json:"window"`
	Containers []struct {
		Name  string                                    `json:"name"`
		Usage map[corev1.ResourceName]resource.Quantity `json:"usage"`
	} `json:"containers"`
}

// New returns a Source.
func New(config Config) (*Source, error) {
	if config.Client == nil || config.Table == nil || len(config.Namespaces) == 0 {
		return nil, errors.New("figures: client, table and namespaces are required")
	}
	if config.Life == 0 {
		config.Life = resolution
	}
	return &Source{config: config}, nil
}

// Pods tells what the pods of a selection use. An error is ctx's own.
func (s *Source) Pods(ctx context.Context, selection table.Selection) (interlink.StatsResponse, error) {
	measured, err := s.measured(ctx)
	if err != nil {
		return interlink.StatsResponse{}, err
	}
	answer := interlink.StatsResponse{Available: measured.available, Pods: []interlink.PodStats{}}
	if len(measured.pods) == 0 {
		return answer, nil
	}
	names := map[string]string{}
	s.config.Table.Each(func(key table.Key, pod *corev1.Pod) {
		if selection.Matches(pod) {
			names[pod.Namespace+"/"+pod.Name] = key.UID
		}
	})
	for i := range measured.pods {
		from := &measured.pods[i]
		if uid, ours := names[from.Metadata.Namespace+"/"+from.Metadata.Name]; ours {
			answer.Pods = append(answer.Pods, from.wire(uid))
		}
	}
	return answer, nil
}

func (p *podMetrics) wire(uid string) interlink.PodStats {
	stats := interlink.PodStats{UID: uid, Time: metav1.NewMicroTime(p.Timestamp.Time), Window: p.Window}
	for i := range p.Containers {
		cpu, memory := p.Containers[i].Usage[corev1.ResourceCPU], p.Containers[i].Usage[corev1.ResourceMemory]
		stats.Containers = append(stats.Containers, interlink.ContainerStats{
			Name: p.Containers[i].Name, CPUNanoCores: positive(cpu.ScaledValue(resource.Nano)), MemoryBytes: positive(memory.Value()),
		})
	}
	return stats
}

func positive(value int64) uint64 { return uint64(max(value, 0)) }

// measured returns the cluster's answer, a recent one if there is one. Who asks at
// the same time shares a question, which goes on when one of them leaves.
func (s *Source) measured(ctx context.Context) (measurement, error) {
	if last := s.recent(); !last.at.IsZero() {
		return last, nil
	}
	asked := s.asking.DoChan("", func() (any, error) {
		if last := s.recent(); !last.at.IsZero() {
			return last, nil
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		next := s.ask(bounded)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last = next
		return next, nil
	})
	select {
	case <-ctx.Done():
		return measurement{}, ctx.Err()
	case outcome := <-asked:
		measured, _ := outcome.Val.(measurement)
		return measured, outcome.Err
	}
}

// recent is the last answer, or nothing when it is too old.
func (s *Source) recent() measurement {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last.at) >= s.config.Life {
		return measurement{}
	}
	return s.last
}

// ask asks the cluster for all created pods. What fails gives no figures.
func (s *Source) ask(ctx context.Context) measurement {
	next := measurement{at: time.Now()}
	for _, namespace := range s.config.Namespaces {
		pods, err := s.list(ctx, namespace)
		if err != nil {
			level := logging.From(ctx).WarnContext
			if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
				level = logging.From(ctx).DebugContext // there is none for us, which is no fault
			}
			level(ctx, "figures not available", "namespace", namespace, "error", err)
			continue
		}
		next.available = true
		next.pods = append(next.pods, pods...)
	}
	return next
}

func (s *Source) list(ctx context.Context, namespace string) ([]podMetrics, error) {
	selector := translate.LabelManagedBy + "=" + translate.ManagedBy
	if s.config.Selector != "" {
		selector += "," + s.config.Selector
	}
	path := root + "/pods"
	if namespace != metav1.NamespaceAll {
		path = root + "/namespaces/" + namespace + "/pods"
	}
	stream, err := s.config.Client.CoreV1().RESTClient().Get().AbsPath(path).Param("labelSelector", selector).
		SetHeader("Accept", "application/json").Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	data, err := io.ReadAll(io.LimitReader(stream, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	var list struct {
		Items []podMetrics `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode pod metrics: %w", err)
	}
	return list.Items, nil
}
