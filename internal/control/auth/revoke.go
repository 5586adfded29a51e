package auth

import "livego/internal/domain"

// A Revoker disconnects publishers whose right to publish has ended.
type Revoker struct {
	Hub interface {
		EndOwners(owners []any, end bool, reason error) (streams int)
		Names() []domain.Name
	}
}

// Revoke disconnects the publishers that use one of refs, and refuses those that were authorized
// with one and have not started. If end is true, their streams end at once; otherwise they are held,
// so that an encoder with the new key continues them.
func (r Revoker) Revoke(refs []domain.KeyRef, end bool) {
	owners := make([]any, len(refs))
	for i, ref := range refs {
		owners[i] = domain.Grant{Key: ref}.Owner()
	}
	r.Hub.EndOwners(owners, end, domain.Errorf(domain.Denied, "the stream key was revoked"))
}

// EndKeyless ends the streams of room that are or were published without a key, because no revoked
// key disconnects these. It does so in app, or in every app for "". It reports whether there was
// one.
func (r Revoker) EndKeyless(app, room string) bool {
	var owners []any
	for _, name := range r.Hub.Names() {
		if name.Room == room && (app == "" || name.App == app) {
			owners = append(owners, domain.Grant{Name: name}.Owner())
		}
	}
	return r.Hub.EndOwners(owners, true, domain.Errorf(domain.Denied, "the room was deleted")) > 0
}
