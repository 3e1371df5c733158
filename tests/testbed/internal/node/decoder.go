package node

import (
	"log/slog"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
	observerTypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	"github.com/cilium/cilium/pkg/hubble/parser"
	"github.com/cilium/cilium/pkg/hubble/testutils"
)

// decoder lets events that are already flows pass as they are and leaves everything else to
// Cilium's parser.
type decoder struct {
	parser parser.Decoder
}

// tracked is a payload whose sender wants to know what became of it.
type tracked struct {
	payload any
	done    chan<- result
}

// result is what the parser made of a payload.
type result struct {
	event *v1.Event
	err   error
}

func newDecoder(log *slog.Logger, endpoints *registry) (*decoder, error) {
	p, err := parser.New(log,
		&testutils.FakeEndpointGetter{OnGetEndpointInfo: endpoints.byIP, OnGetEndpointInfoByID: endpoints.byID},
		&testutils.FakeIdentityGetter{OnGetIdentity: endpoints.identity},
		&testutils.FakeFQDNCache{OnGetNamesOf: endpoints.names},
		&testutils.FakeIPGetter{OnGetK8sMetadata: endpoints.metadata, OnLookupSecIDByIP: endpoints.identityOf},
		&testutils.FakeServiceGetter{OnGetServiceByAddr: endpoints.service},
		&testutils.NoopLinkGetter,
		&testutils.NoopPodMetadataGetter,
	)
	if err != nil {
		return nil, err
	}
	return &decoder{parser: p}, nil
}

// Decode implements parser.Decoder.
func (d *decoder) Decode(m *observerTypes.MonitorEvent) (*v1.Event, error) {
	t, ok := m.Payload.(*tracked)
	if !ok {
		return d.decode(m)
	}
	inner := *m
	inner.Payload = t.payload
	event, err := d.decode(&inner)
	t.done <- result{event, err}
	return event, err
}

func (d *decoder) decode(m *observerTypes.MonitorEvent) (*v1.Event, error) {
	switch payload := m.Payload.(type) {
	case *flowpb.Flow:
		// since and until look at the event's time, the answer shows the flow's.
		return &v1.Event{Timestamp: payload.GetTime(), Event: payload}, nil
	case *flowpb.LostEvent:
		return &v1.Event{Timestamp: payload.GetLast(), Event: payload}, nil
	}
	return d.parser.Decode(m)
}
