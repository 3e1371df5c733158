package node

import (
	"context"
	"sync/atomic"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// settle is the time that Hubble gets between accepting a request and fixing the place in the ring
// where its answer starts; it takes microseconds, but there is no event for it.
const settle = 30 * time.Millisecond

// followers counts the open GetFlows streams that follow. A relay tells its client that nodes are
// connected before they have read the request, and what is written until then is not delivered; so
// a test that writes flows must know when a stream has really begun.
type followers struct {
	open atomic.Int64
}

// OnGetFlows implements observeroption.OnGetFlows.
func (f *followers) OnGetFlows(ctx context.Context, request *observerpb.GetFlowsRequest) (context.Context, error) {
	if request.GetFollow() {
		go f.follow(ctx)
	}
	return ctx, nil
}

func (f *followers) follow(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(settle):
	}
	f.open.Add(1)
	<-ctx.Done()
	f.open.Add(-1)
}
