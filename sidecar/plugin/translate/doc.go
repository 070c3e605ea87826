// SPDX-License-Identifier: Apache-2.0

// Package translate turns a pod of an origin cluster, with the objects that it
// references, into the objects that run it in the target cluster. It is pure: no
// clock, no network, no logging.
//
// Every field of a pod is classified (see fields.go) as kept, mapped, dropped or
// refused. A dropped or mapped field is recorded in a report, which travels as an
// annotation of the created pod; a refused field makes the whole pod refused, with
// all problems named at once. Nothing is lost silently.
//
//	result, err := translate.Pod(request, policy)
//	var refusal *translate.RefusalError
//	if errors.As(err, &refusal) { … tell the user: no retry can help … }
package translate
