package auth

import (
	"context"
	"maps"
	"testing"

	"livego/internal/domain"
)

// TestRefusalCounts counts refusals by action and reason, except those of clients that have left.
func TestRefusalCounts(t *testing.T) {
	var result error
	c := NewChain(nil, func(context.Context, domain.AuthRequest, domain.Grant) (domain.Grant, error) {
		return domain.Grant{}, result
	})
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, result = range []error{
		nil, domain.Errorf(domain.Denied, "no"), domain.Errorf(domain.NotFound, "no app"),
		domain.CodeErrorf(domain.Denied, domain.TokenExpired, "expired"),
	} {
		for _, action := range []domain.Action{domain.Publish, domain.Play} {
			_, _ = c.Authorize(t.Context(), domain.AuthRequest{Action: action})
			_, _ = c.Authorize(left, domain.AuthRequest{Action: action})
		}
	}
	limit := domain.ViewerLimit{Max: 1}
	for range 3 {
		_ = c.ReserveViewers(limit, 1)
	}
	want := map[RefusalReason]uint64{
		{"publish", "denied"}: 1, {"publish", "not_found"}: 1, {"publish", "token_expired"}: 1,
		{"play", "denied"}: 1, {"play", "not_found"}: 1, {"play", "token_expired"}: 1, {"play", "token_viewer_limit"}: 2,
	}
	if got := c.Refusals(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestAdminRefusalCounts counts refused requests to the operator's HTTP.
func TestAdminRefusalCounts(t *testing.T) {
	d, _ := newAdminAuth(t, AdminOptions{})
	for _, header := range []string{"User-Agent: curl/8", "Via: 1.1 proxy", "Authorization: Bearer wrong"} {
		_ = d.Authorize(request("/control/get?room=movie", header), Access{Rights: Operate})
	}
	want := map[RefusalReason]uint64{{actionManage, "denied"}: 2} // a proxy, and a wrong credential
	if got := d.Refusals(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
