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

// process is one part; life is nil before its first start.
type process struct {
	spec
	*life
	stopped bool
}

// life is one run of a part, from start to end.
type life struct {
	cmd   *exec.Cmd
	ended chan struct{}
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

// start starts a part that does not run and waits until it serves. Others can be asked for and
// started meanwhile.
func (t *table) start(ctx context.Context, name string) error {
	p, now, err := t.launchNamed(name)
	if err != nil {
		return err
	}
	if err := now.waitServing(ctx, p); err != nil {
		return fmt.Errorf("%s: %w; see %s", name, err, t.logFile(name))
	}
	return nil
}

func (t *table) launchNamed(name string) (spec, *life, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.get(name)
	if err != nil {
		return spec{}, nil, err
	}
	if p.alive() {
		return spec{}, nil, fmt.Errorf("%s runs already", name)
	}
	if err := t.launch(p); err != nil {
		return spec{}, nil, err
	}
	return p.spec, p.life, nil
}

func (t *table) launch(p *process) error {
	program := p.program
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		program = self
	}
	log, err := os.OpenFile(t.logFile(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	started := make(chan error)
	t.spawn <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	now := &life{cmd: cmd, ended: make(chan struct{})}
	p.life, p.stopped = now, false
	go func() {
		_ = cmd.Wait()
		close(now.ended)
	}()
	return nil
}

// startLimit bounds the wait for a part. The API server takes two seconds on an idle machine.
const startLimit = 60 * time.Second

// waitServing waits until all addresses of the part take connections and the part says itself that
// it is ready, if it can.
func (l *life) waitServing(ctx context.Context, s spec) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, addr := range []string{s.listen, s.control} {
		if addr == "" {
			continue
		}
		if err := l.until(ctx, func() error { return connects(addr) }); err != nil {
			return err
		}
	}
	if s.ready == nil {
		return nil
	}
	return l.until(ctx, func() error { return s.ready(ctx) })
}

// until asks until there is no error, the part ends, or time is over.
func (l *life) until(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-l.ended:
			return fmt.Errorf("ended: %s", l.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("does not serve: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func connects(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *process) alive() bool {
	if p.life == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// endLimit bounds the wait for the end after a signal.
const endLimit = 20 * time.Second

// signal sends a signal to a living part; when the signal ends it, signal waits for the end.
func (t *table) signal(name string, sig syscall.Signal) error {
	now, err := t.send(name, sig)
	if err != nil || now == nil {
		return err
	}
	select {
	case <-now.ended:
		return nil
	case <-time.After(endLimit):
		return fmt.Errorf("%s has not ended %s after %s", name, endLimit, sig)
	}
}

// send returns the life that the signal will end, if it will.
func (t *table) send(name string, sig syscall.Signal) (*life, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.get(name)
	if err != nil {
		return nil, err
	}
	if !p.alive() {
		return nil, fmt.Errorf("%s does not run", name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return nil, err
	}
	switch {
	case sig == syscall.SIGSTOP:
		p.stopped = true
	case sig == syscall.SIGCONT:
		p.stopped = false
	case sig == syscall.SIGKILL, sig == syscall.SIGTERM && !p.stopped:
		return p.life, nil
	}
	// A stopped process takes SIGTERM only when it goes on.
	return nil, nil
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
