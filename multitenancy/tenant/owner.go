// SPDX-License-Identifier: Apache-2.0

package tenant

// Owner says whose an object is and who may read it. The zero value is the system's.
type Owner struct{ UserID, VisibleTo string }

// OwnerOf reads the owner of an object from its labels.
func OwnerOf(labels map[string]string) Owner {
	return Owner{UserID: labels[LabelUserID], VisibleTo: labels[LabelVisibleTo]}
}

// System tells that the object is nobody's. What it says of visibility does not count then.
func (o Owner) System() bool { return o.UserID == "" }

// Is tells that the object is of the user with that label-ready id. Nobody owns nothing.
func (o Owner) Is(userID string) bool { return userID != "" && o.UserID == userID }

// Shared tells that the owner shows the object to the project.
func (o Owner) Shared() bool { return !o.System() && o.VisibleTo == VisibleToProject }

// ReadableBy tells that a user may read the object, in a namespace of the user's project.
// Only an object of a Shareable class is read by others.
func (o Owner) ReadableBy(userID string, class Class) bool {
	return o.Is(userID) || userID != "" && class == Shareable && o.Shared()
}

// Mark is what the labels of a tenant's object say.
type Mark struct {
	UserID, UserName string
	Project          Project
	// VisibleTo is empty for the owner alone.
	VisibleTo string
}

// Labels are all five. A name that there is none of is an empty value.
func (m Mark) Labels() map[string]string {
	visible := m.VisibleTo
	if visible == "" {
		visible = m.UserID
	}
	return map[string]string{
		LabelUserID: m.UserID, LabelUserName: LabelName(m.UserName),
		LabelProjectID: m.Project.ID, LabelProjectName: LabelName(m.Project.Name),
		LabelVisibleTo: visible,
	}
}
