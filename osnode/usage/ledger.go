// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

const mebibytesPerGibibyte = 1024

// Account is who consumed, and what kind of machine.
type Account struct {
	Namespace   string `json:"namespace"`
	ProjectID   string `json:"projectid"`
	ProjectName string `json:"projectname,omitempty"`
	UserID      string `json:"userid"`
	UserName    string `json:"username,omitempty"`
	Flavor      string `json:"flavor"`
	GPU         string `json:"gpu,omitempty"`
}

// Total is what an account has consumed, in hours.
type Total struct {
	Nodes     float64 `json:"nodes"`
	VCPUs     float64 `json:"vcpus"`
	MemoryGiB float64 `json:"memoryGiB"`
	GPUs      float64 `json:"gpus"`
}

// Ledger holds the totals up to a time. Its methods are pure; it is not for several
// goroutines.
type Ledger struct {
	// At is when it was last brought up to date; zero for a new one.
	At     time.Time
	Totals map[Account]Total
	// Known are the ids of the servers that were there at that time. A server that was not
	// counts from its creation, however late it is heard of. Nil means that nobody knows, as
	// after a restart: then all count from At. It is not encoded.
	Known map[string]bool
}

// Accrue adds what the machines have used since the ledger's time, or since they were
// created, and makes now the ledger's time. A clock that goes backwards adds nothing.
func (l *Ledger) Accrue(nodes []osnodev1.OpenStackNode, now time.Time, stoppedCounts bool) {
	if now.Before(l.At) {
		return
	}
	if l.Totals == nil {
		l.Totals = map[Account]Total{}
	}
	known := map[string]bool{}
	for i := range nodes {
		osn := &nodes[i]
		if server := osn.Status.Server; server != nil {
			known[server.ID] = true
		}
		if !counts(osn, stoppedCounts) {
			continue
		}
		hours := now.Sub(l.since(osn.Status.Server)).Hours()
		if hours <= 0 {
			continue
		}
		account, resolved := accountOf(osn), osn.Status.Resolved
		total := l.Totals[account]
		total.Nodes += hours
		total.VCPUs += hours * float64(resolved.VCPUs)
		total.MemoryGiB += hours * float64(resolved.MemoryMiB) / mebibytesPerGibibyte
		total.GPUs += hours * float64(resolved.GPUs)
		l.Totals[account] = total
	}
	l.At, l.Known = now, known
}

func (l *Ledger) since(server *osnodev1.ServerStatus) time.Time {
	created := server.Created.Time
	heardOf := l.Known == nil || l.Known[server.ID]
	if heardOf && created.Before(l.At) {
		return l.At
	}
	return created
}

func counts(osn *osnodev1.OpenStackNode, stoppedCounts bool) bool {
	server := osn.Status.Server
	if server == nil || server.ID == "" || server.Created.IsZero() || osn.Status.Resolved == nil {
		return false
	}
	status := cloud.Status(server.Status)
	switch {
	case status.Running(), status.Building():
		return true
	case status.Stopped():
		return stoppedCounts
	default:
		return false // in ERROR, gone, or what Nova itself cannot say
	}
}

func accountOf(osn *osnodev1.OpenStackNode) Account {
	return Account{
		Namespace: osn.Namespace,
		ProjectID: osn.Labels[osnodev1.LabelProjectID], ProjectName: osn.Labels[osnodev1.LabelProjectName],
		UserID: osn.Labels[osnodev1.LabelUserID], UserName: osn.Labels[osnodev1.LabelUserName],
		Flavor: osn.Spec.Flavor, GPU: osn.Status.Resolved.GPU,
	}
}

// entry and record are the ledger's form in the ConfigMap.
type entry struct {
	Account
	Total
}

type record struct {
	At      time.Time `json:"at"`
	Entries []entry   `json:"entries"`
}

// Encode is the ledger as text, the same for the same content.
func (l *Ledger) Encode() (string, error) {
	kept := record{At: l.At.UTC(), Entries: make([]entry, 0, len(l.Totals))}
	for account, total := range l.Totals {
		kept.Entries = append(kept.Entries, entry{account, total})
	}
	slices.SortFunc(kept.Entries, func(a, b entry) int { return compare(a.Account, b.Account) })
	text, err := json.Marshal(kept)
	if err != nil {
		return "", fmt.Errorf("encode usage: %w", err)
	}
	return string(text), nil
}

// Decode reads what Encode wrote.
func Decode(text string) (Ledger, error) {
	var kept record
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return Ledger{}, fmt.Errorf("decode usage: %w", err)
	}
	ledger := Ledger{At: kept.At, Totals: make(map[Account]Total, len(kept.Entries))}
	for _, e := range kept.Entries {
		if min(e.Nodes, e.VCPUs, e.MemoryGiB, e.GPUs) < 0 {
			return Ledger{}, fmt.Errorf("decode usage: a total of project %q is negative", e.ProjectID)
		}
		ledger.Totals[e.Account] = e.Total
	}
	return ledger, nil
}

func compare(a, b Account) int {
	return cmp.Or(
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.UserID, b.UserID),
		cmp.Compare(a.Flavor, b.Flavor), cmp.Compare(a.GPU, b.GPU),
		cmp.Compare(a.ProjectName, b.ProjectName), cmp.Compare(a.UserName, b.UserName),
	)
}
