package keys_test

import (
	"testing"

	"livego/internal/control/keys"
	"livego/internal/control/store/storetest"
	"livego/internal/domain"
)

// TestConformance runs the suite over a store in memory. Each store runs it too.
func TestConformance(t *testing.T) {
	storetest.RunKeys(t, func(*testing.T) domain.KeyStore { return keys.New(&storetest.Memory{}) })
}

// TestReservedNames: no room is created with a name that ends as the address of a thumbnail does. A room
// that exists keeps such a name.
func TestReservedNames(t *testing.T) {
	rooms := &storetest.Memory{}
	s := keys.New(rooms)
	ctx := t.Context()
	calls := map[string]func(room string) error{
		"Get":    func(room string) error { _, err := s.Get(ctx, "", room); return err },
		"Create": func(room string) error { _, _, err := s.Create(ctx, room, nil); return err },
		"Rotate": func(room string) error { _, _, err := s.Rotate(ctx, "", room, domain.Rotation{}); return err },
		"Add":    func(room string) error { _, err := s.Add(ctx, domain.Key{Room: room, Label: "second"}); return err },
	}
	for name, call := range calls {
		for _, room := range []string{"cat.jpg", "cat.JPG"} {
			if err := call(room); domain.KindOf(err) != domain.Invalid || err == nil {
				t.Errorf("%s of a new room %s: %v", name, room, err)
			}
		}
		if all, err := s.List(ctx, ""); err != nil || len(all) > 0 {
			t.Errorf("%s has created %v, %v", name, all, err)
		}
	}
	if err := rooms.Update(ctx, "cat.jpg", func([]domain.Key) (domain.RoomChange, error) {
		return domain.RoomChange{Keys: []domain.Key{domain.Key{Room: "cat.jpg"}.Complete()}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if err := call("cat.jpg"); err != nil {
			t.Errorf("%s of a room that exists: %v", name, err)
		}
	}
}
