package clienttest

import (
	"slices"

	"presence/pkg/protocol"
)

// contactList is whom a user knows, sorted. The version rises with each change.
type contactList struct {
	users   []string
	version uint64
}

func (s *Service) contacts(r Request, m *protocol.ContactsRequest) (any, error) {
	list := append(slices.Clone(s.known[r.UserID].users), m.Add...)
	if m.Replace != nil {
		list = slices.Clone(*m.Replace)
	}
	list = without(list, m.Remove)
	slices.Sort(list)
	if list = slices.Compact(list); len(list) > protocol.MaxContacts {
		return nil, protocol.ErrRequestTooLarge.Withf("there would be %d contacts, at most %d are allowed", len(list), protocol.MaxContacts)
	}
	s.setContacts(r.UserID, list)
	now := s.known[r.UserID]
	return protocol.ContactsReply{Contacts: append([]string{}, now.users...), FriendNotifications: s.friendNotifications, Version: now.version}, nil
}

// setContacts sets a user's contacts and, if that changes them, tells the user's devices.
func (s *Service) setContacts(user string, list []string) {
	old := s.known[user]
	if slices.Equal(list, old.users) {
		return
	}
	s.known[user] = contactList{users: list, version: old.version + 1}
	subject, err := s.subjects.Self(user)
	s.publish(subject, err, protocol.SelfEvent{
		Type: protocol.SelfContacts, PreviousVersion: old.version, Version: old.version + 1,
		Added: without(list, old.users), Removed: without(old.users, list),
	}, s.trace)
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(id string) bool { return slices.Contains(others, id) })
}
