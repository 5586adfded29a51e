package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"livego/internal/domain"
)

// RunKeys runs the suite of domain.KeyStore. open returns a new one without keys.
func RunKeys(t *testing.T, open func(t *testing.T) domain.KeyStore) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s domain.KeyStore)
	}{
		{"GetCreatesOnce", getMakesOnce},
		{"CreateOnce", createOnce},
		{"Description", description},
		{"Rotate", rotate},
		{"RotateAll", rotateAll},
		{"Delete", deleteRoom},
		{"DeleteApp", deleteApp},
		{"AppBinding", appBinding},
		{"ManyKeys", manyKeys},
		{"Expiry", expiry},
		{"DeniedErrorsAreEqual", deniedErrorsAreEqual},
		{"Grace", grace},
		{"GraceTwice", graceTwice},
		{"GraceEnds", graceEnds},
		{"GraceRevoked", graceRevoked},
		{"GraceAfterNewDefault", graceAfterNewDefault},
		{"Add", add},
		{"RotateKey", rotateKey},
		{"Revoke", revoke},
		{"MaxKeys", maxKeys},
		{"List", list},
		{"Page", pages},
		{"Dump", dump},
		{"Touch", touch},
		{"ReadsCreateNothing", readsCreateNothing},
		{"Parallel", parallel},
		{"ParallelGet", parallelGet},
		{"Canceled", canceled},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func getMakesOnce(t *testing.T, s domain.KeyStore) {
	before := time.Now().Add(-time.Second)
	k := get(t, s, "", "movie")
	if !domain.LooksLikeKey(k.Secret) || k.Digest != domain.Digest(k.Secret) {
		t.Errorf("secret %q has digest %x", k.Secret, k.Digest)
	}
	if k.ID == "" || k.Room != "movie" || k.App != "" || k.Label != "" || k.Role != domain.Primary || k.Generation != 1 {
		t.Errorf("new key %+v", k)
	}
	if k.Created.Before(before) || k.Created.After(time.Now().Add(time.Second)) || !k.Expires.IsZero() ||
		!k.LastUsed.IsZero() {
		t.Errorf("new key with the times %v, %v, %v", k.Created, k.Expires, k.LastUsed)
	}
	same(t, "the second Get", get(t, s, "", "movie"), k)
	if other := get(t, s, "", "Movie"); other.Secret == k.Secret || other.ID == k.ID {
		t.Error("two rooms share a key")
	}
	resolves(t, s, "live", k)
}

// createOnce creates and deletes one room by many callers at once. The room was created once more
// than deleted if it exists in the end.
func createOnce(t *testing.T, s domain.KeyStore) {
	var created, deleted atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for step := range 25 {
				var err error
				if (worker+step)%2 == 0 {
					var k domain.Key
					var isNew bool
					if k, isNew, err = s.Create(t.Context(), "movie", nil); isNew {
						created.Add(1)
					}
					if err == nil && !domain.LooksLikeKey(k.Secret) {
						t.Errorf("created without a key: %+v", k)
					}
				} else if _, err = s.Delete(t.Context(), "", "movie"); err == nil {
					deleted.Add(1)
				} else if domain.KindOf(err) == domain.NotFound {
					err = nil
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	exist := int64(len(mustList(t, s, "movie")))
	if created.Load() != deleted.Load()+exist || created.Load() == 0 {
		t.Errorf("created %d times, deleted %d times, %d keys left", created.Load(), deleted.Load(), exist)
	}
}

// description checks that the description of a room survives changes of its keys.
func description(t *testing.T, s domain.KeyStore) {
	check := func(what, want string) {
		t.Helper()
		if got := domain.DescriptionOf(mustList(t, s, "movie")); got != want {
			t.Errorf("%s: the description is %q, want %q", what, got, want)
		}
	}
	if err := s.Describe(t.Context(), "movie", "none"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("describe an unknown room: %v", err)
	}
	if _, created, err := s.Create(t.Context(), "movie", new("Camera é")); !created || err != nil {
		t.Fatalf("created %v, %v", created, err)
	}
	check("create", "Camera é")
	k := put(t, s, domain.Key{Room: "movie", Label: "b", App: "live", Description: "of an import"})
	check("add", "Camera é")
	if _, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Hour}); err != nil {
		t.Fatal(err)
	}
	check("rotate", "Camera é")
	if _, err := s.Delete(t.Context(), "live", "movie"); err != nil {
		t.Fatal(err)
	}
	check("delete app", "Camera é")
	put(t, s, k)
	if _, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{RevokeOthers: true}); err != nil {
		t.Fatal(err)
	}
	check("rotate all", "Camera é")
	if _, created, err := s.Create(t.Context(), "movie", nil); created || err != nil {
		t.Errorf("created again %v, %v", created, err)
	}
	check("create again", "Camera é")
	if _, _, err := s.Create(t.Context(), "movie", new("other")); err != nil {
		t.Fatal(err)
	}
	check("create again with a description", "other")
	if err := s.Describe(t.Context(), "movie", ""); err != nil {
		t.Fatal(err)
	}
	check("describe", "")
	put(t, s, domain.Key{Room: "movie", Label: "c", Description: "imported"})
	check("add a key that has one", "imported")
}

func rotate(t *testing.T, s domain.KeyStore) {
	first, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil || len(revoked) != 0 || first.Generation != 1 {
		t.Fatalf("Rotate of an absent key = %+v, %v, %v", first, revoked, err)
	}
	second, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil || !slices.Equal(revoked, []domain.KeyRef{first.Ref()}) {
		t.Fatalf("Rotate revoked %v, %v; want %v", revoked, err, first.Ref())
	}
	if second.ID != first.ID || second.Generation != 2 || second.Secret == first.Secret {
		t.Errorf("Rotate returned %+v for %+v", second, first)
	}
	refuses(t, s, "live", first.Secret)
	resolves(t, s, "live", second)
	same(t, "Get after Rotate", get(t, s, "", "movie"), second)
}

// threeKeys returns the keys of movie: the default key of every app, that of live, and another one.
func threeKeys(t *testing.T, s domain.KeyStore) []domain.Key {
	t.Helper()
	return []domain.Key{get(t, s, "", "movie"), get(t, s, "live", "movie"),
		put(t, s, domain.Key{Room: "movie", Label: "spare"})}
}

func rotateAll(t *testing.T, s domain.KeyStore) {
	all, other := threeKeys(t, s), get(t, s, "", "movie2")
	k, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{RevokeOthers: true})
	if err != nil {
		t.Fatal(err)
	}
	sameRefs(t, revoked, all...)
	for _, old := range all {
		refuses(t, s, "live", old.Secret)
	}
	resolves(t, s, "live", k)
	resolves(t, s, "live", other)
}

func deleteRoom(t *testing.T, s domain.KeyStore) {
	all, other := threeKeys(t, s), get(t, s, "", "movie2") // a name with the same prefix
	revoked, err := s.Delete(t.Context(), "", "movie")
	if err != nil {
		t.Fatal(err)
	}
	sameRefs(t, revoked, all...)
	for _, old := range all {
		refuses(t, s, "live", old.Secret)
	}
	resolves(t, s, "live", other)
	if _, err := s.Delete(t.Context(), "", "movie"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("the second Delete: %v, want not found", err)
	}
	if k := get(t, s, "", "movie"); k.Secret == all[0].Secret || k.Ref() == all[0].Ref() {
		t.Error("a key created after Delete is the old one")
	}
}

func deleteApp(t *testing.T, s domain.KeyStore) {
	def, bound := get(t, s, "", "movie"), get(t, s, "live", "movie")
	if _, err := s.Delete(t.Context(), "other", "movie"); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Delete for an app without keys: %v, want not found", err)
	}
	revoked, err := s.Delete(t.Context(), "live", "movie")
	if err != nil {
		t.Fatal(err)
	}
	sameRefs(t, revoked, bound)
	refuses(t, s, "live", bound.Secret)
	resolves(t, s, "live", def)
}

func appBinding(t *testing.T, s domain.KeyStore) {
	anywhere, bound := get(t, s, "", "movie"), get(t, s, "live", "movie")
	if anywhere.Secret == bound.Secret {
		t.Fatal("one app has the key of all apps")
	}
	resolves(t, s, "live", anywhere)
	resolves(t, s, "other", anywhere)
	resolves(t, s, "live", bound)
	refuses(t, s, "other", bound.Secret)
	if _, revoked, err := s.Rotate(t.Context(), "live", "movie", domain.Rotation{}); err != nil ||
		!slices.Equal(revoked, []domain.KeyRef{bound.Ref()}) {
		t.Errorf("Rotate of the bound key revoked %v, %v", revoked, err)
	}
	resolves(t, s, "live", anywhere)
}

func manyKeys(t *testing.T, s domain.KeyStore) {
	def := get(t, s, "", "movie")
	for i := range 20 {
		k := put(t, s, domain.Key{Room: "movie", Label: fmt.Sprintf("cam%02d", i), Role: domain.Backup})
		if got := resolves(t, s, "live", k); got.Role != domain.Backup || got.Label != k.Label {
			t.Errorf("Resolve = %+v, want %+v", got, k)
		}
	}
	same(t, "Get among many keys", get(t, s, "", "movie"), def)
	next, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	resolves(t, s, "live", next)
	if keys := mustList(t, s, "movie"); len(keys) != 21 {
		t.Errorf("%d keys after Rotate, want 21", len(keys))
	}
}

func expiry(t *testing.T, s domain.KeyStore) {
	now := time.Now()
	resolves(t, s, "live", put(t, s, domain.Key{Room: "movie", Label: "fresh", Expires: now.Add(time.Hour)}))
	refuses(t, s, "live", put(t, s, domain.Key{Room: "movie", Label: "stale", Expires: now.Add(-time.Nanosecond)}).Secret)
}

func deniedErrorsAreEqual(t *testing.T, s domain.KeyStore) {
	bound := get(t, s, "other", "movie")
	stale := put(t, s, domain.Key{Room: "movie", Label: "stale", Expires: time.Now().Add(-time.Hour)})
	var texts []string
	for _, secret := range []string{bound.Secret, stale.Secret, domain.NewSecret(), "movie", "", string([]byte{0, 255})} {
		refuses(t, s, "live", secret)
		_, err := s.Resolve(t.Context(), "live", secret)
		texts = append(texts, err.Error())
	}
	if slices.Sort(texts); texts[0] != texts[len(texts)-1] {
		t.Errorf("the errors differ: %q", texts)
	}
}

// grace replaces a key with a grace period.
func grace(t *testing.T, s domain.KeyStore) {
	old := get(t, s, "", "movie")
	k, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Hour})
	if err != nil || !slices.Contains(revoked, old.Ref()) {
		t.Fatalf("Rotate with grace revoked %v, %v; want %v among them", revoked, err, old.Ref())
	}
	same(t, "Get", get(t, s, "", "movie"), k)
	resolves(t, s, "live", k)
	former, err := s.Resolve(t.Context(), "live", old.Secret)
	if err != nil || former.Room != "movie" || !slices.Contains(revoked, former.Ref()) || former.Ref() == old.Ref() {
		t.Errorf("the former key resolves to %+v, %v", former, err)
	}
	if left := time.Until(former.Expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the former key is valid for %v, want an hour", left)
	}

	old = k
	if k, _, err = s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Nanosecond}); err != nil {
		t.Fatal(err)
	}
	refuses(t, s, "live", old.Secret)
	resolves(t, s, "live", k)
}

// graceTwice replaces a key while the grace period of another is running: that key ends.
func graceTwice(t *testing.T, s domain.KeyStore) {
	first := get(t, s, "", "movie")
	for range 2 {
		if _, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, s, "live", first.Secret)
	if keys := mustList(t, s, "movie"); len(keys) != 2 {
		t.Errorf("%d keys, want the default and its former", len(keys))
	}
	k, revoked, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{})
	if err != nil || len(revoked) != 3 { // the default key, and its former one by both of its references
		t.Errorf("Rotate without grace revoked %v, %v", revoked, err)
	}
	sameAll(t, "after Rotate without grace", mustList(t, s, "movie"), withoutSecret(k))
}

// graceEnds checks that a replaced key whose grace period has ended is removed with the next change
// of the room.
func graceEnds(t *testing.T, s domain.KeyStore) {
	get(t, s, "", "movie")
	k, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Get", get(t, s, "", "movie"), k) // no change
	spare := put(t, s, domain.Key{Room: "movie", Label: "spare"})
	sameAll(t, "after a change", mustList(t, s, "movie"), withoutSecret(k), withoutSecret(spare))
}

// graceRevoked revokes a replaced key in its grace period. That also disconnects a publisher that has
// used it since before it was replaced.
func graceRevoked(t *testing.T, s domain.KeyStore) {
	for _, c := range []struct {
		name   string
		revoke func(room string, former domain.Key) ([]domain.KeyRef, error)
	}{
		{"rotate", func(room string, _ domain.Key) ([]domain.KeyRef, error) {
			_, revoked, err := s.Rotate(t.Context(), "", room, domain.Rotation{})
			return revoked, err
		}},
		{"rotate-all", func(room string, _ domain.Key) ([]domain.KeyRef, error) {
			_, revoked, err := s.Rotate(t.Context(), "", room, domain.Rotation{RevokeOthers: true})
			return revoked, err
		}},
		{"delete", func(room string, _ domain.Key) ([]domain.KeyRef, error) { return s.Delete(t.Context(), "", room) }},
		{"revoke", func(_ string, former domain.Key) ([]domain.KeyRef, error) { return s.Revoke(t.Context(), former.ID) }},
	} {
		get(t, s, "", c.name)
		old, _, err := s.Rotate(t.Context(), "", c.name, domain.Rotation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Rotate(t.Context(), "", c.name, domain.Rotation{Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
		former, err := s.Resolve(t.Context(), "live", old.Secret)
		if err != nil {
			t.Fatal(err)
		}
		revoked, err := c.revoke(c.name, former)
		if err != nil || !slices.Contains(revoked, old.Ref()) || !slices.Contains(revoked, former.Ref()) {
			t.Errorf("%s revoked %v, %v; want %v and %v among them", c.name, revoked, err, old.Ref(), former.Ref())
		}
	}
}

// graceAfterNewDefault revokes a replaced key whose successor was revoked before. The default key that
// the room got then is not affected.
func graceAfterNewDefault(t *testing.T, s domain.KeyStore) {
	get(t, s, "", "movie")
	k, _, err := s.Rotate(t.Context(), "", "movie", domain.Rotation{Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	k = get(t, s, "", "movie")
	former := mustList(t, s, "movie")[1]
	if revoked, err := s.Revoke(t.Context(), former.ID); err != nil || slices.Contains(revoked, k.Ref()) {
		t.Errorf("Revoke of the former key revoked %v, %v; the default key is %v", revoked, err, k.Ref())
	}
}

func add(t *testing.T, s domain.KeyStore) {
	want := domain.Key{
		ID: "an-id", Room: "movie", App: "live", Label: "cam1", Role: domain.Backup, Created: time.Unix(1e9, 0),
		Expires:  time.Unix(1e10, 0),
		LastUsed: time.Unix(2e9, 0), Generation: 7, Secret: domain.NewSecret(),
	}.Complete()
	same(t, "Add of a whole key", put(t, s, want), want)
	got, err := s.Resolve(t.Context(), "live", want.Secret)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Resolve", got, want)
	for name, k := range map[string]domain.Key{
		"app and label": {Room: "movie", App: "live", Label: "cam1"},
		"id":            {Room: "movie", Label: "other", ID: want.ID},
		"secret":        {Room: "other", Secret: want.Secret},
	} {
		if _, err := s.Add(t.Context(), k); domain.KindOf(err) != domain.Conflict {
			t.Errorf("Add with the same %s: %v, want a conflict", name, err)
		}
	}
	if keys := mustList(t, s, ""); len(keys) != 1 {
		t.Errorf("%d keys after refused calls", len(keys))
	}
	old := put(t, s, domain.Key{Room: "other", Secret: "rfBd56ti2SMtYvSgD5xAV0YU99zampta7Z7S575KLkIZ9PYk"})
	same(t, "Get of an added default key", get(t, s, "", "other"), old)
}

// rotateKey replaces one key by its ID: a labelled one at once, and the default key also after a grace period.
func rotateKey(t *testing.T, s domain.KeyStore) {
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	def := get(t, s, "", "movie")
	spare := put(t, s, domain.Key{Room: "movie", App: "live", Label: "spare", Role: domain.Backup, Expires: expires})
	next, revoked, err := s.RotateKey(t.Context(), spare.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	sameRefs(t, revoked, spare)
	if next.ID != spare.ID || next.Label != "spare" || next.App != "live" || next.Role != domain.Backup ||
		!next.Expires.Equal(expires) || next.Generation != 2 {
		t.Errorf("RotateKey returned %+v for %+v", next, spare)
	}
	refuses(t, s, "live", spare.Secret)
	resolves(t, s, "live", next)
	resolves(t, s, "live", def)

	nextDef, _, err := s.RotateKey(t.Context(), def.ID, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Get after RotateKey", get(t, s, "", "movie"), nextDef)
	if old, err := s.Resolve(t.Context(), "live", def.Secret); err != nil || old.Label != domain.FormerLabel {
		t.Errorf("the replaced key in its grace period: %+v, %v", old, err)
	} else if _, _, err := s.RotateKey(t.Context(), old.ID, 0); domain.KindOf(err) != domain.Invalid {
		t.Errorf("RotateKey of a replaced key: %v", err)
	}
	resolves(t, s, "live", next)
	if _, _, err := s.RotateKey(t.Context(), spare.ID, time.Minute); domain.KindOf(err) != domain.Invalid {
		t.Errorf("RotateKey of a labelled key with a grace period: %v", err)
	}
	for _, id := range []string{"", "nobody", "../x"} {
		if _, _, err := s.RotateKey(t.Context(), id, 0); domain.KindOf(err) != domain.NotFound {
			t.Errorf("RotateKey of %q: %v, want not found", id, err)
		}
	}
}

func revoke(t *testing.T, s domain.KeyStore) {
	def, spare := get(t, s, "", "movie"), put(t, s, domain.Key{Room: "movie", Label: "spare"})
	refs, err := s.Revoke(t.Context(), spare.ID)
	if err != nil {
		t.Fatal(err)
	}
	sameRefs(t, refs, spare)
	refuses(t, s, "live", spare.Secret)
	resolves(t, s, "live", def)
	for _, id := range []string{spare.ID, "", "nobody", "../x"} {
		if _, err := s.Revoke(t.Context(), id); domain.KindOf(err) != domain.NotFound {
			t.Errorf("Revoke of %q: %v, want not found", id, err)
		}
	}
	if _, err := s.Revoke(t.Context(), def.ID); err != nil {
		t.Error(err)
	}
	if keys := mustList(t, s, ""); len(keys) != 0 {
		t.Errorf("a room without keys is listed: %v", keys)
	}
}

func maxKeys(t *testing.T, s domain.KeyStore) {
	for i := range domain.MaxKeys {
		put(t, s, domain.Key{Room: "movie", Label: fmt.Sprint("cam", i)})
	}
	if _, err := s.Add(t.Context(), domain.Key{Room: "movie", Label: "more"}); domain.KindOf(err) != domain.Limit {
		t.Errorf("key %d: %v, want a limit", domain.MaxKeys+1, err)
	}
	put(t, s, domain.Key{Room: "other", Label: "cam"})
}

func pages(t *testing.T, s domain.KeyStore) {
	var want []domain.Key
	for _, k := range []domain.Key{{Room: "a"}, {Room: "a", Label: "x"}, {Room: "a-b"}, {Room: "ab"},
		{Room: "b", App: "live"}} {
		want = append(want, withoutSecret(put(t, s, k)))
	}
	var got []domain.Key
	after, n := "", 0
	for {
		keys, err := s.Page(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		got = append(got, keys...)
		after = keys[len(keys)-1].Room
		n++
	}
	sameAll(t, "all pages", got, want...)
	if n != 2 {
		t.Errorf("%d pages of two rooms, want 2", n)
	}
}

func dump(t *testing.T, s domain.KeyStore) {
	a, b := get(t, s, "", "a"), put(t, s, domain.Key{Room: "b", Label: "cam", Role: domain.Backup})
	keys, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameAll(t, "Dump", keys, a, b)
}

func withoutSecret(k domain.Key) domain.Key {
	k.Secret = ""
	return k
}

func list(t *testing.T, s domain.KeyStore) {
	if keys := mustList(t, s, ""); len(keys) != 0 {
		t.Fatalf("an empty store lists %v", keys)
	}
	var want []domain.Key
	for _, k := range []domain.Key{
		{Room: "a"},
		{Room: "a", App: "live"},
		{Room: "a", App: "live", Label: "spare"},
		{Room: "a-b"}, // sorts between a and ab, whatever byte separates the fields
		{Room: "ab", Label: "x"},
		{Room: "b", App: "z"},
	} {
		k = put(t, s, k)
		k.Secret = ""
		want = append(want, k)
	}
	sameAll(t, "all rooms", mustList(t, s, ""), want...)
	sameAll(t, "one room", mustList(t, s, "a"), want[:3]...)
	if keys := mustList(t, s, "none"); len(keys) != 0 {
		t.Errorf("an unknown room lists %v", keys)
	}
}

func touch(t *testing.T, s domain.KeyStore) {
	k := get(t, s, "", "movie")
	at := time.Now().Add(time.Hour)
	if err := s.Touch(t.Context(), k, at); err != nil {
		t.Fatal(err)
	}
	got := resolves(t, s, "live", k)
	if d := got.LastUsed.Sub(at).Abs(); d > time.Minute {
		t.Errorf("last used is off by %v", d)
	}
	got.LastUsed = time.Time{}
	same(t, "the key after Touch", got, k)
	for _, unknown := range []domain.Key{
		{Room: "nobody"}, {Room: "movie", ID: "nobody", Generation: 1}, {Room: "movie", ID: k.ID, Generation: 7},
	} {
		if err := s.Touch(t.Context(), unknown, at.Add(time.Hour)); err != nil {
			t.Errorf("Touch of unknown %v: %v", unknown.Ref(), err)
		}
	}
	if d := resolves(t, s, "live", k).LastUsed.Sub(at).Abs(); d > time.Minute {
		t.Errorf("another generation's touch moved last used by %v", d)
	}
}

// readsCreateNothing checks that looking up unknown names stores nothing.
func readsCreateNothing(t *testing.T, s domain.KeyStore) {
	for i := range 100 {
		refuses(t, s, "live", fmt.Sprint("room", i))
		mustList(t, s, fmt.Sprint("room", i))
	}
	if keys := mustList(t, s, ""); len(keys) != 0 {
		t.Errorf("reads created %v", keys)
	}
}

// parallel lets many callers get, reset and delete one room at once. Whatever the order, each
// secret that was returned must have been revoked exactly once or be the room's key in the end.
func parallel(t *testing.T, s domain.KeyStore) {
	var mu sync.Mutex
	made := map[domain.KeyRef]string{} // every key seen, with its secret
	revoked := map[domain.KeyRef]int{}
	see := func(k domain.Key, refs []domain.KeyRef) {
		mu.Lock()
		defer mu.Unlock()
		if k.Secret != "" {
			if old, ok := made[k.Ref()]; ok && old != k.Secret {
				t.Errorf("%v names two secrets", k.Ref())
			}
			made[k.Ref()] = k.Secret
		}
		for _, ref := range refs {
			revoked[ref]++
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			last := map[string]uint64{}
			for step := range 25 {
				var k domain.Key
				var refs []domain.KeyRef
				var err error
				switch (worker + step) % 3 {
				case 0:
					k, err = s.Get(t.Context(), "", "movie")
				case 1:
					k, refs, err = s.Rotate(t.Context(), "", "movie", domain.Rotation{RevokeOthers: step%2 == 0})
				case 2:
					refs, err = s.Delete(t.Context(), "", "movie")
					if domain.KindOf(err) == domain.NotFound {
						err = nil
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				if k.ID != "" && k.Generation < last[k.ID] {
					t.Errorf("key %s: generation %[2]d was followed by %[3]d", k.ID, last[k.ID], k.Generation)
				}
				last[k.ID] = k.Generation
				see(k, refs)
			}
		})
	}
	wg.Wait()
	end := get(t, s, "", "movie")
	see(end, nil)
	for ref, secret := range made {
		switch n := revoked[ref]; {
		case ref == end.Ref():
			if n != 0 {
				t.Errorf("the room's key was reported as revoked")
			}
		case n != 1:
			t.Errorf("%v was revoked %d times", ref, n)
		default:
			refuses(t, s, "live", secret)
		}
	}
	resolves(t, s, "live", end)
}

// parallelGet checks that callers that create a room at once all get the same key.
func parallelGet(t *testing.T, s domain.KeyStore) {
	keys := make([]domain.Key, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() { keys[i] = get(t, s, "", "movie") })
	}
	wg.Wait()
	for _, k := range keys {
		if k.Secret != keys[0].Secret {
			t.Fatal("two callers got different keys of one room")
		}
	}
}

func canceled(t *testing.T, s domain.KeyStore) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, "", "movie"); domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a canceled context: %v", err)
	}
	if keys := mustList(t, s, ""); len(keys) != 0 {
		t.Errorf("it created %v", keys)
	}
}

func get(t *testing.T, s domain.KeyStore, app, room string) domain.Key {
	t.Helper()
	k, err := s.Get(t.Context(), app, room)
	if err != nil {
		t.Errorf("Get %q %q: %v", app, room, err)
	}
	return k
}

// put adds a key.
func put(t *testing.T, s domain.KeyStore, k domain.Key) domain.Key {
	t.Helper()
	k, err := s.Add(t.Context(), k)
	if err != nil {
		t.Errorf("Add: %v", err)
	}
	return k
}

func mustList(t *testing.T, s domain.KeyStore, room string) []domain.Key {
	t.Helper()
	keys, err := s.List(t.Context(), room)
	if err != nil {
		t.Errorf("List %q: %v", room, err)
	}
	return keys
}

func resolves(t *testing.T, s domain.KeyStore, app string, want domain.Key) domain.Key {
	t.Helper()
	k, err := s.Resolve(t.Context(), app, want.Secret)
	if err != nil || k.Ref() != want.Ref() || k.Room != want.Room {
		t.Errorf("Resolve of %v (%s) in %s = %v (%s), %v", want.Ref(), want.Room, app, k.Ref(), k.Room, err)
	}
	return k
}

func refuses(t *testing.T, s domain.KeyStore, app, secret string) {
	t.Helper()
	if k, err := s.Resolve(t.Context(), app, secret); domain.KindOf(err) != domain.Denied {
		t.Errorf("Resolve = %v, %v, want denied", k.Ref(), err)
	}
}

func same(t *testing.T, what string, got, want domain.Key) {
	t.Helper()
	plain := func(k domain.Key) domain.Key {
		for _, at := range []*time.Time{&k.Created, &k.Expires, &k.LastUsed} {
			*at = at.UTC().Round(0) // == compares zone and monotonic reading too
		}
		return k
	}
	if plain(got) != plain(want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func sameAll(t *testing.T, what string, got []domain.Key, want ...domain.Key) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d keys, want %d", what, len(got), len(want))
	}
	for i := range want {
		same(t, fmt.Sprintf("%s, key %d", what, i), got[i], want[i])
	}
}

func sameRefs(t *testing.T, got []domain.KeyRef, want ...domain.Key) {
	t.Helper()
	count := map[domain.KeyRef]int{}
	for _, ref := range got {
		count[ref]++
	}
	for _, k := range want {
		count[k.Ref()]--
	}
	for ref, n := range count {
		if n != 0 {
			t.Errorf("revoked %v, but %v is off by %d", got, ref, n)
		}
	}
}
