package auth

import (
	"context"
	"sync/atomic"

	"livego/internal/domain"
)

// A Step is one check of a Chain. It returns the grant so far, perhaps changed, or an error of a
// kind that domain.Authorizer lists.
type Step func(ctx context.Context, r domain.AuthRequest, grant domain.Grant) (domain.Grant, error)

// A Chain implements domain.Authorizer: a request is granted when all steps, in order, grant it. The
// viewer limit of a token comes after them, when the viewer joins its stream or starts its session.
type Chain struct {
	denied func(domain.Event)
	steps  atomic.Pointer[[]Step]
	viewerLimits
	refusalCounts
}

// NewChain returns a Chain that calls denied, which may be nil, with the event of every refusal.
func NewChain(denied func(domain.Event), steps ...Step) *Chain {
	c := &Chain{denied: denied, viewerLimits: viewerLimits{used: make(map[domain.ViewerLimit]int)}}
	c.SetSteps(steps...)
	return c
}

// SetSteps replaces the steps for requests that are made from now on. Viewers stay counted.
func (c *Chain) SetSteps(steps ...Step) { c.steps.Store(&steps) }

// Authorize implements domain.Authorizer.
func (c *Chain) Authorize(ctx context.Context, r domain.AuthRequest) (grant domain.Grant, err error) {
	for _, step := range *c.steps.Load() {
		if grant, err = step(ctx, r, grant); err != nil {
			if ctx.Err() == nil { // else the client has left
				c.count(r.Action.String(), err)
			}
			if e, ok := refusal(ctx, r, err); ok && c.denied != nil {
				c.denied(e)
			}
			return domain.Grant{}, err
		}
	}
	return grant, nil
}

// ReserveViewers implements domain.ViewerLimiter.
func (c *Chain) ReserveViewers(l domain.ViewerLimit, n int) error {
	err := c.viewerLimits.ReserveViewers(l, n)
	if err != nil {
		c.count(domain.Play.String(), err)
	}
	return err
}
