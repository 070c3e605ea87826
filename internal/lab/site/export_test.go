// SPDX-License-Identifier: Apache-2.0

package site

// UserData is the site's part of machines' user data.
func UserData() (string, error) { return userData() }
