package kube

import (
	"errors"
	"io"
	"net/http"

	"cpg.test/testbed/internal/part"
)

// Routes adds the requests about the cluster to the control channel; README.md lists them.
func (c *Cluster) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /kube/apply", c.handleApply)
	mux.HandleFunc("DELETE /kube/policy", part.Handler(func(r *http.Request) (any, error) {
		q := r.URL.Query()
		n, err := c.Delete(r.Context(), q.Get("kind"), q.Get("namespace"), q.Get("name"))
		if err != nil {
			return nil, err
		}
		return map[string]int{"deleted": n}, nil
	}))
	mux.HandleFunc("POST /kube/relay-pod", part.Handler(func(r *http.Request) (any, error) {
		q := r.URL.Query()
		pods, err := c.RelayPod(r.Context(), q.Get("action"), q.Get("cut") == "0")
		if err != nil {
			return nil, err
		}
		return map[string]any{"pods": pods}, nil
	}))
	mux.HandleFunc("GET /kube/audit", part.Handler(func(r *http.Request) (any, error) {
		requests, err := c.Audit(r.Context(), r.URL.Query().Get("user"))
		if err != nil {
			return nil, err
		}
		return map[string]any{"requests": requests}, nil
	}))
	mux.HandleFunc("POST /kube/user", part.Handler(func(r *http.Request) (any, error) {
		q := r.URL.Query()
		return c.User(q.Get("name"), q["group"], q.Get("expired") == "1")
	}))
}

// handleApply answers with the results of all objects, and with status 400 and the first error when
// one was refused.
func (c *Cluster) handleApply(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		part.Refuse(w, http.StatusBadRequest, err)
		return
	}
	q := r.URL.Query()
	results, err := c.Apply(r.Context(), text, Options{DryRun: q.Get("dry_run") == "1", Namespaces: q.Get("namespaces") == "1"})
	if err == nil && len(results) == 0 {
		err = errors.New("the body has no object")
	}
	if err != nil {
		part.Refuse(w, http.StatusBadRequest, err)
		return
	}
	answer := map[string]any{"objects": results}
	for _, result := range results {
		if !result.OK {
			answer["error"] = result.Error
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			break
		}
	}
	part.Answer(w, answer)
}
