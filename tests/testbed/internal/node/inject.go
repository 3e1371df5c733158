package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/pkg/time"
)

// inject writes ready-made flows: one JSON object per line, a Flow, {"flow": Flow} as "hubble
// observe -o json" prints it, or {"lost_events": LostEvent}. Nothing is written unless every line
// can be read.
//
// now=1 gives every flow the present time and a new uuid (uuid=keep: its own), repeat=N writes the
// batch N times, each copy with uuids of its own.
func (s *source) inject(r *http.Request) (any, error) {
	q := r.URL.Query()
	repeat, err := number(q, "repeat", 1)
	if err != nil {
		return nil, err
	}
	fill, err := fillersOf(q)
	if err != nil {
		return nil, err
	}
	batch, err := readBatch(r.Body)
	if err != nil {
		return nil, err
	}

	now := q.Get("now") == "1"
	keepUUID := q.Get("uuid") == "keep"
	flows := 0
	var last proto.Message
	for i := range repeat {
		for _, message := range batch {
			if last != nil {
				s.send(last, time.Now())
			}
			last = message
			if flow, ok := message.(*flowpb.Flow); ok {
				flows++
				last = s.complete(flow, now, (now || i > 0) && !keepUUID)
			}
		}
	}
	if last != nil {
		if res := s.sendWait(last, time.Now()); res.err != nil {
			return nil, res.err
		}
	}
	return map[string]any{"flows": flows, "lines": len(batch), "fillers": fill}, s.fill(fill)
}

// complete returns a copy of the flow with all that Hubble's server needs.
func (s *source) complete(flow *flowpb.Flow, now, newUUID bool) *flowpb.Flow {
	out := proto.CloneOf(flow)
	if now || out.Time == nil {
		out.Time = timestamppb.Now()
	}
	if newUUID || out.Uuid == "" {
		out.Uuid = uuid.NewString()
	}
	if out.NodeName == "" {
		out.NodeName = s.node
	}
	return out
}

func readBatch(body io.Reader) ([]proto.Message, error) {
	var batch []proto.Message
	reader := bufio.NewReader(body)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		message, bad := readMessage(line)
		if bad != nil {
			return nil, fmt.Errorf("line %d: %w", number, bad)
		}
		if message != nil {
			batch = append(batch, message)
		}
		if err != nil {
			return batch, nil
		}
	}
}

func readMessage(line []byte) (proto.Message, error) {
	if len(line) == 0 || len(line) == 1 && line[0] == '\n' {
		return nil, nil
	}
	var envelope struct {
		Flow json.RawMessage `json:"flow"`
		Lost json.RawMessage `json:"lost_events"`
	}
	if err := json.Unmarshal(line, &envelope); err != nil {
		return nil, err
	}
	var message proto.Message
	switch {
	case envelope.Lost != nil:
		message, line = &flowpb.LostEvent{}, envelope.Lost
	case envelope.Flow != nil:
		message, line = &flowpb.Flow{}, envelope.Flow
	default:
		message = &flowpb.Flow{}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, message); err != nil {
		return nil, err
	}
	return message, nil
}
