// SPDX-License-Identifier: Apache-2.0

package provider

// WholePods is tested by itself: nobody but the library sees what it changes.
type WholePods = wholePods
