// Package part holds what the parts of the testbed (one process each) have in common: their log,
// their control server and the way they end.
package part

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

// Log is the log of a part: text on standard error, which the supervisor writes into a file.
func Log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// Fail prints an error in the form that every subcommand uses and returns exit code 2.
func Fail(err error) int {
	fmt.Fprintln(os.Stderr, "testbed:", err)
	return 2
}

// Answer writes v as JSON.
func Answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// Refuse writes {"error": ...} with the given status.
func Refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// Handler turns a function that returns an answer or an error into an HTTP handler; every error is
// the caller's (400).
func Handler(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			Refuse(w, http.StatusBadRequest, err)
			return
		}
		Answer(w, v)
	}
}

// Listen opens the control address of a part and serves mux there in the background.
func Listen(addr string, mux http.Handler) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := http.Serve(l, mux); err != nil && !errors.Is(err, net.ErrClosed) {
			slog.Error("control server ended", "error", err)
		}
	}()
	return l, nil
}

// Terminated returns a context that ends with SIGTERM or SIGINT.
func Terminated() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}
