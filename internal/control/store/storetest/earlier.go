package storetest

import (
	"testing"
	"time"

	"livego/internal/domain"
)

// RunEarlier checks that s, whose data an earlier livego has written, has all of its keys, and that
// they can be changed.
func RunEarlier(t *testing.T, store domain.Store) {
	s := WithKeys(store)
	at := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	def := domain.Key{ID: "FM71WaTckAOlYIcU", Room: "movie", Created: at("2026-11-30T11:58:07.591991234Z"), Generation: 2,
		Secret: "MbU9ExFcg9JedkzSji3YX3ZEVQQfz2LAZZ3dzsj9e3UIWPUu"}.Complete()
	former := domain.Key{ID: "f7rcN7KjHIMAVypI", Room: "movie", Label: "~", Created: at("2026-11-30T11:58:07.575762841Z"),
		Expires: at("2036-11-27T11:58:07.591992694Z"), Secret: "0bjHJJ6RBAmhE66BME6mRhkZidcE0hJ13E0fWAPVIPHNJ1yJ"}.Complete()
	bound := domain.Key{ID: "u2m7dlGjr30qNDkY", Room: "movie", App: "live", Label: "cam1", Role: domain.Backup,
		Created: at("2026-11-30T11:58:07.605339469Z"), Expires: at("2100-01-02T03:04:05Z"),
		Secret: "ZNTfsQ3iO1EL0JAw5SBk1xUa76aoUMyLl8wF8oOkPYmwFAdC"}.Complete()
	radio := domain.Key{ID: "lbkUwKlbEMK2icbR", Room: "radio", Created: at("2026-11-30T11:58:07.62426105Z"),
		Secret: "kZMK5eH8zhWyk6GGBxeJwKU5Wv6v830ztUkcMGjzxAjath7d"}.Complete()
	holds(t, s, "movie", def, former, bound)
	holds(t, s, "radio", radio)
	keys, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameAll(t, "Dump", keys, def, former, bound, radio)
	for _, k := range []domain.Key{def, bound, radio} {
		resolves(t, s, "live", k)
	}

	k, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil || k.ID != def.ID || k.Generation != 3 {
		t.Errorf("Rotate returned %+v, %v", k, err)
	}
	beforeGrace := domain.Key{ID: def.ID, Generation: 1} // the former key while it was the default key
	sameRefs(t, revoked, def, former, beforeGrace)
	holds(t, s, "movie", k, bound)
	lacks(t, s, former)
	refuses(t, s, "live", def.Secret)
}
