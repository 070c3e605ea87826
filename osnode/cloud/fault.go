// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"net/http"
	"regexp"
)

// The words by which OpenStack's services tell refusals apart whose codes are the same, or
// differ from release to release.
var (
	quotaWords = regexp.MustCompile(`(?i)quota exceeded|quota (has been )?exceeded|exceed(s|ed|ing)? .*quota|maximum number of [^.]* exceeded|over ?quota|out of quota`)
	hostWords  = regexp.MustCompile(`(?i)no valid host|exceeded max(imum)?( number of)? (scheduling attempts|retries)|exhausted all hosts|insufficient compute resources`)
)

// OverQuota tells that a text of OpenStack's is about a quota that is used up.
func OverQuota(text string) bool { return quotaWords.MatchString(text) }

// Class is that of what Nova says about a server that it gave up. Nova knows only 500 for
// most of it, so the text decides.
func (f Fault) Class() Class {
	switch {
	case f.Code == http.StatusRequestEntityTooLarge, OverQuota(f.Message):
		return QuotaExceeded
	case hostWords.MatchString(f.Message):
		return NoValidHost
	default:
		return ServerError
	}
}
