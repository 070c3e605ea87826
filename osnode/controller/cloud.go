// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"time"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// Cloud is OpenStack as this package needs it. All methods MAY be called at the same
// time, return within a bounded time, and fail with a *cloud.Error.
type Cloud interface {
	Directory
	Servers
	Leftovers
}

// Directory says what there is before a machine is.
type Directory interface {
	// Settings are a provider's; it asks nobody.
	Settings(provider string) (cloud.Settings, error)
	// Authorize tells in which way the platform may act for the account's user.
	Authorize(ctx context.Context, account cloud.Account) (mode string, err error)
	// Resolve finds what the names stand for. It MAY make a missing security group.
	Resolve(ctx context.Context, account cloud.Account, wanted cloud.Wanted) (cloud.Resolved, error)
	// Quota are the limits of the account's project and what is used of them.
	Quota(ctx context.Context, account cloud.Account) (cloud.Quota, error)
}

// Servers are the machines of a project.
type Servers interface {
	// Create asks for one machine, once. After cloud.Unavailable it MAY exist.
	Create(ctx context.Context, account cloud.Account, request cloud.Request) (cloud.Server, error)
	// Find asks now for the machines that were made for a UID.
	Find(ctx context.Context, account cloud.Account, name, uid string) ([]cloud.Server, error)
	// List has all the cluster's machines of a project, as they were at most maxAge ago. All
	// callers share what is asked for.
	List(ctx context.Context, account cloud.Account, maxAge time.Duration) (cloud.Listing, error)
	// Server asks now for one machine; cloud.NotFound if there is none.
	Server(ctx context.Context, account cloud.Account, id string) (cloud.Server, error)
	// Delete asks for a machine's end; it is no error that there is none.
	Delete(ctx context.Context, account cloud.Account, id string) error
}

// Leftovers are what machines may leave behind.
type Leftovers interface {
	// Sweep removes ports and volumes that were made for a UID.
	Sweep(ctx context.Context, account cloud.Account, uid string) (removed []string, err error)
	// Accounts are all projects that the platform may look into; they have no user.
	Accounts(ctx context.Context) ([]cloud.Account, error)
}
