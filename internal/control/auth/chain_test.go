package auth

import (
	"context"
	"testing"

	"livego/internal/domain"
)

// TestReserveViewers reserves viewers of a limit, over all streams: for a client that counts as
// several, and for one that joins.
func TestReserveViewers(t *testing.T) {
	c := NewChain(nil)
	limit := domain.ViewerLimit{ID: [16]byte{1}, Max: 3}
	for _, step := range []struct {
		n  int
		ok bool
	}{{2, true}, {2, false}, {1, true}, {1, false}, {0, true}} {
		if err := c.ReserveViewers(limit, step.n); (err == nil) != step.ok || err != nil &&
			domain.CodeOf(err) != domain.TokenViewerLimit {
			t.Errorf("%d more: %v", step.n, err)
		}
	}
	reserve := domain.Grant{ViewerLimit: limit}.Reservation(c)
	if _, err := reserve(); domain.KindOf(err) != domain.Limit {
		t.Errorf("a viewer that joins: %v", err)
	}
	other := domain.Grant{ViewerLimit: domain.ViewerLimit{ID: [16]byte{2}, Max: 1}}.Reservation(c)
	release, err := other()
	if err != nil {
		t.Errorf("with another limit: %v", err)
	}
	release()
	c.ReleaseViewers(limit, 3)
	if len(c.used) != 0 {
		t.Errorf("%v are still reserved", c.used)
	}
	if release, err = reserve(); err != nil {
		t.Errorf("when all have left: %v", err)
	}
	release()
	if (domain.Grant{}).Reservation(c) != nil {
		t.Error("a grant without a limit needs a reservation")
	}
}

// TestChain runs steps in order. A step may change the grant, and the first refusal is the result.
func TestChain(t *testing.T) {
	no := domain.Errorf(domain.Denied, "no")
	var ran []string
	step := func(room string, err error) Step {
		return func(_ context.Context, _ domain.AuthRequest, g domain.Grant) (domain.Grant, error) {
			ran = append(ran, g.Name.Room)
			g.Name.Room = room
			return g, err
		}
	}
	for _, c := range []struct {
		steps []Step
		want  domain.Grant
		err   error
		ran   int
	}{
		{nil, domain.Grant{}, nil, 0},
		{[]Step{step("a", nil), step("b", nil)}, domain.Grant{Name: domain.Name{Room: "b"}}, nil, 2},
		{[]Step{step("a", nil), step("b", no), step("c", nil)}, domain.Grant{}, no, 2},
	} {
		ran = nil
		var denied []domain.Event
		grant, err := NewChain(func(e domain.Event) { denied = append(denied, e) }, c.steps...).
			Authorize(t.Context(), domain.AuthRequest{})
		if grant != c.want || err != c.err || len(ran) != c.ran || c.ran == 2 && ran[1] != "a" {
			t.Errorf("%+v, %v after %q; want %+v, %v", grant, err, ran, c.want, c.err)
		}
		if n := len(denied); (n == 1) != (err != nil) {
			t.Errorf("%d events after %v", n, err)
		}
	}
}
