package protocol

// The messages by which an operator compares instances (PROTOCOL 4.9).

// Limits of an InstanceRequest.
const (
	// MaxUsersPerInstancePage bounds a page of digests.
	MaxUsersPerInstancePage = 500
	// MaxExplained bounds the users that are explained at once: each may have
	// many sessions.
	MaxExplained = 20
)

// InstanceRequest asks one instance what it holds: the digests of a page of its
// users, or everything about some of them.
type InstanceRequest struct {
	// From is where the page begins: 0, or the Next of the page before. Limit is
	// 0, for no page, to MaxUsersPerInstancePage.
	From  int `json:"from,omitempty"`
	Limit int `json:"limit,omitempty"`
	// UserIDList are at most MaxExplained users to explain.
	UserIDList []string `json:"userIDList,omitempty"`
}

// InstanceReply is what one instance holds, all as of Revision but Vitals.
type InstanceReply struct {
	Writer  string `json:"writer"` // names this start of the instance
	Host    string `json:"host,omitempty"`
	Version string `json:"version"`
	// NotReady is why it should get no requests; left out while it should.
	NotReady string `json:"notReady,omitempty"`
	// Digest covers everything that decides what the state does next. Instances with
	// the same state at the same Revision have the same digest. Facts are what it
	// covers besides the users, by name.
	Digest string            `json:"digest"`
	Facts  map[string]string `json:"facts"`
	Users  int               `json:"users"`
	// Page is the page that was asked for, in no order. Next is where the following
	// page begins; it is left out after the last one. While users come and go, a user
	// may be on no page or on two.
	Page []UserDigest `json:"page,omitempty"`
	Next int          `json:"next,omitempty"`
	// Explained are the users of UserIDList, in their order.
	Explained []ExplainReply `json:"explained,omitempty"`
	// Vitals is how the instance is doing; nil where a page or users were asked for, and from an
	// instance of an earlier version.
	Vitals *Vitals `json:"vitals,omitempty"`

	Revision uint64 `json:"revision"`
	Epoch    string `json:"epoch"`
	AsOf     Time   `json:"asOf,omitzero"`
	Stale    bool   `json:"stale"`
}

// UserDigest stands for everything about a user.
type UserDigest struct {
	UserID string `json:"userID"`
	Digest string `json:"digest"`
}

// Check implements PROTOCOL 4.9.
func (r *InstanceRequest) Check() error {
	switch {
	case r.From < 0 || r.Limit < 0 || r.Limit > MaxUsersPerInstancePage:
		return ErrInvalidRequest.Withf("from must not be negative and limit 0 to %d", MaxUsersPerInstancePage)
	case len(r.UserIDList) > MaxExplained:
		return ErrTooManyUsers.Withf("at most %d users are explained at once", MaxExplained)
	}
	for _, id := range r.UserIDList {
		if err := CheckUserID(id); err != nil {
			return err
		}
	}
	return nil
}
