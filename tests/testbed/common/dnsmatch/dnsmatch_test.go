package dnsmatch

import "testing"

func TestMatch(t *testing.T) {
	for line, want := range map[string]bool{
		`{"name":"a.io","query":"A.io."}`:                   true,
		`{"name":"a.io","query":"b.a.io"}`:                  false,
		`{"pattern":"*.a.io","query":"b.a.io"}`:             true,
		`{"pattern":"*.a.io","query":"c.b.a.io"}`:           false,
		`{"pattern":"**.a.io","query":"c.b.a.io"}`:          true,
		`{"name":"x.io","pattern":"*.a.io","query":"x.io"}`: true,
		`{"pattern":"*","query":"a/b"}`:                     true,
		`{"of":"fqdn","pattern":"*","query":"a/b"}`:         false,
		`{"of":"fqdn","name":"a.io","query":"a.io"}`:        true,
		`{"query":"a.io"}`:                                  false,
	} {
		if got, err := Match([]byte(line)); err != nil || got != want {
			t.Errorf("%s: %v, %v", line, got, err)
		}
	}
	for _, line := range []string{
		`{"pattern":"a b","query":"a"}`, `{"of":"fqdn","name":"a","pattern":"*","query":"a"}`, `{"of":"http"}`, `nonsense`,
	} {
		if got, err := Match([]byte(line)); err == nil {
			t.Errorf("%s: %v, no error", line, got)
		}
	}
}
