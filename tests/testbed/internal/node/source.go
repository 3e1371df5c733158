package node

import (
	"github.com/google/uuid"

	observerTypes "github.com/cilium/cilium/pkg/hubble/observer/types"
	monitorAPI "github.com/cilium/cilium/pkg/monitor/api"
	"github.com/cilium/cilium/pkg/time"
)

// source takes the place of the monitor: it writes events into the observer's queue.
type source struct {
	events chan *observerTypes.MonitorEvent
	node   string
}

// send queues one payload and returns at once, or waits while the queue is full.
func (s *source) send(payload any, at time.Time) {
	s.events <- &observerTypes.MonitorEvent{
		UUID: uuid.New(), Timestamp: at, NodeName: s.node, Payload: payload,
	}
}

// sendWait queues one payload and waits until the observer has decoded it and all before it.
func (s *source) sendWait(payload any, at time.Time) result {
	done := make(chan result, 1)
	s.send(&tracked{payload: payload, done: done}, at)
	return <-done
}

// fill writes n agent events. GetFlows never delivers them, but the newest event of a ring cannot
// be read, so an event becomes visible only when another one follows.
func (s *source) fill(n int) error {
	for ; n > 0; n-- {
		now := time.Now()
		event := &observerTypes.AgentEvent{Type: monitorAPI.MessageTypeAgent, Message: monitorAPI.StartMessage(now)}
		if n > 1 {
			s.send(event, now)
			continue
		}
		return s.sendWait(event, now).err
	}
	return nil
}
