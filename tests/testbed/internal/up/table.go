package up

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// table holds the processes of the testbed.
type table struct {
	dir   string
	spawn chan func()

	mu    sync.Mutex
	order []string
	parts map[string]*process
}

// process is one part; cmd is nil while it does not run.
type process struct {
	spec
	cmd     *exec.Cmd
	ended   chan struct{}
	stopped bool
}

// status is a row of GET /state.
type status struct {
	Name    string `json:"name"`
	State   string `json:"state"` // running, stopped (SIGSTOP) or dead
	PID     int    `json:"pid,omitempty"`
	Listen  string `json:"listen"`
	Control string `json:"control,omitempty"`
	Log     string `json:"log"`
}

func newTable(dir string) *table {
	t := &table{dir: dir, parts: map[string]*process{}, spawn: make(chan func())}
	// The kernel kills a child with the thread that created it, so that thread must live as long
	// as the supervisor.
	go func() {
		runtime.LockOSThread()
		for f := range t.spawn {
			f()
		}
	}()
	return t
}

func (t *table) add(s spec) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.parts[s.name]; known {
		return fmt.Errorf("two parts are called %q", s.name)
	}
	t.order = append(t.order, s.name)
	t.parts[s.name] = &process{spec: s}
	return nil
}

func (t *table) get(name string) (*process, error) {
	p, ok := t.parts[name]
	if !ok {
		return nil, fmt.Errorf("no part is called %q; there are %v", name, t.order)
	}
	return p, nil
}

func (t *table) logFile(name string) string { return filepath.Join(t.dir, name+".log") }

// start starts a part that does not run and waits until it serves.
func (t *table) start(ctx context.Context, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.get(name)
	if err != nil {
		return err
	}
	if p.alive() {
		return fmt.Errorf("%s runs already", name)
	}
	if err := t.launch(p); err != nil {
		return err
	}
	for _, addr := range []string{p.listen, p.control} {
		if err := p.waitServing(ctx, addr); err != nil {
			return fmt.Errorf("%s: %w; see %s", name, err, t.logFile(name))
		}
	}
	return nil
}

func (t *table) launch(p *process) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(t.logFile(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	started := make(chan error)
	t.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.stopped, p.ended = cmd, false, make(chan struct{})
	go func(ended chan<- struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(p.ended)
	return nil
}

// waitServing waits until the address takes connections, for at most 20 seconds.
func (p *process) waitServing(ctx context.Context, addr string) error {
	if addr == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("ended: %s", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("does not serve %s: %w", addr, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *process) alive() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to a living part; when the signal ends it, signal waits for the end.
func (t *table) signal(name string, sig syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.get(name)
	if err != nil {
		return err
	}
	if !p.alive() {
		return fmt.Errorf("%s does not run", name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	switch sig {
	case syscall.SIGSTOP:
		p.stopped = true
	case syscall.SIGCONT:
		p.stopped = false
	case syscall.SIGKILL, syscall.SIGTERM:
		// A stopped process takes SIGTERM only when it goes on.
		if p.stopped && sig == syscall.SIGTERM {
			return nil
		}
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("%s has not ended 10 s after %s", name, sig)
		}
	}
	return nil
}

// restart kills a part, if it runs, and starts it again.
func (t *table) restart(ctx context.Context, name string) error {
	t.mu.Lock()
	p, err := t.get(name)
	alive := err == nil && p.alive()
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if alive {
		if err := t.signal(name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return t.start(ctx, name)
}

func (t *table) state() []status {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []status
	for _, name := range t.order {
		p := t.parts[name]
		row := status{Name: name, State: "dead", Listen: p.listen, Log: t.logFile(name)}
		if p.control != "" {
			row.Control = "http://" + p.control
		}
		if p.alive() {
			row.State, row.PID = "running", p.cmd.Process.Pid
			if p.stopped {
				row.State = "stopped"
			}
		}
		out = append(out, row)
	}
	return out
}

// runningNodes are the nodes that can answer.
func (t *table) runningNodes() []status {
	var out []status
	for _, row := range t.state() {
		if strings.HasPrefix(row.Name, "node-") && row.State == "running" {
			out = append(out, row)
		}
	}
	return out
}

func (t *table) killAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		if p.alive() {
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
}
