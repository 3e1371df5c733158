package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"
)

// answerLimit is how long Audit waits for answers to requests that have begun.
const answerLimit = 2 * time.Second

// Request is one request to the API server.
type Request struct {
	User string `json:"user"`
	Verb string `json:"verb"`
	URI  string `json:"uri"`
	// Code is 0 while there is no answer.
	Code int `json:"code"`
}

// audit reads the audit log as it grows.
type audit struct {
	path string

	mu       sync.Mutex
	offset   int64
	requests []*Request
	byID     map[string]*Request
	// told says for each question how many requests had been seen when it was asked last.
	told map[string]int
}

// event is a line of the audit log.
type event struct {
	AuditID        string
	Stage          string
	RequestURI     string
	Verb           string
	User           struct{ Username string }
	ResponseStatus struct{ Code int }
}

// Audit returns the requests by a user (empty: everybody) since it was last asked for that user.
func (c *Cluster) Audit(ctx context.Context, user string) ([]Request, error) {
	a := &c.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for {
		if err := a.read(); err != nil {
			return nil, err
		}
		found, complete := a.since(user)
		if !complete {
			// The log gets the answer a moment after the client.
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
				continue
			}
		}
		if a.told == nil {
			a.told = map[string]int{}
		}
		a.told[user] = len(a.requests)
		return found, nil
	}
}

func (a *audit) since(user string) (found []Request, complete bool) {
	found, complete = []Request{}, true
	for _, r := range a.requests[a.told[user]:] {
		if user == "" || r.User == user {
			found = append(found, *r)
			complete = complete && r.Code != 0
		}
	}
	return found, complete
}

// read takes in all whole lines that were added.
func (a *audit) read() error {
	file, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(a.offset, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	a.offset += int64(end)
	for line := range bytes.Lines(text[:end]) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		a.take(e)
	}
	return nil
}

func (a *audit) take(e event) {
	r, known := a.byID[e.AuditID]
	if !known {
		r = &Request{User: e.User.Username, Verb: e.Verb, URI: e.RequestURI}
		if a.byID == nil {
			a.byID = map[string]*Request{}
		}
		a.byID[e.AuditID] = r
		a.requests = append(a.requests, r)
	}
	if e.ResponseStatus.Code != 0 {
		r.Code = e.ResponseStatus.Code
	}
}
