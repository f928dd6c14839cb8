package protocol

// ContactsRequest reads or changes a user's contacts (PROTOCOL 4.6): Add and
// Remove, or Replace, or none of them to read. Adding what is there and removing
// what is not is no error. A user in Add and in Remove is removed. To replace all
// contacts by none, Replace points to an empty list: a nil list is null on the
// wire, which means that the field is left out.
type ContactsRequest struct {
	Add     []string  `json:"add,omitempty"`
	Remove  []string  `json:"remove,omitempty"`
	Replace *[]string `json:"replace,omitempty"`
}

// ContactsReply answers a ContactsRequest with all contacts after it, sorted.
type ContactsReply struct {
	Contacts []string `json:"contacts"`
	// FriendNotifications says whether the service's switch is on. If so, a client
	// watches its user's contacts by itself.
	FriendNotifications bool `json:"friendNotifications"`
	// Version rises with every change of these contacts; 0: never changed, or
	// erased.
	Version uint64 `json:"version"`
}

// Changes reports whether the request is to change anything.
func (r *ContactsRequest) Changes() bool {
	return len(r.Add) > 0 || len(r.Remove) > 0 || r.Replace != nil
}

// Check implements PROTOCOL 4.6. How many contacts there are after the change, the
// service checks.
func (r *ContactsRequest) Check() error {
	if r.Replace != nil && len(r.Add)+len(r.Remove) > 0 {
		return ErrInvalidRequest.With("give replace, or add and remove")
	}
	lists := [][]string{r.Add, r.Remove}
	if r.Replace != nil {
		lists = append(lists, *r.Replace)
	}
	for _, list := range lists {
		if len(list) > MaxContacts {
			return ErrRequestTooLarge.Withf("a list has %d contacts, at most %d are allowed", len(list), MaxContacts)
		}
		for _, id := range list {
			if err := CheckUserID(id); err != nil {
				return err
			}
		}
	}
	return nil
}
