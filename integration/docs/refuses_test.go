package docs

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRefuses: what is wrong in a document is found.
func TestRefuses(t *testing.T) {
	box := newSandbox(t, &document{name: "made up"})
	if err := box.run(t, "echo alice ONLINE in a meeting; echo bob OFFLINE"); err != nil {
		t.Fatal(err)
	}
	for _, b := range []block{
		{lang: "", text: "echo\n"},
		{lang: "bash", text: "echo\n"},
		{lang: "sh", info: "somewhere", text: "echo\n"},
		{lang: "js", text: "no test runs it\n"},
		{lang: "sh", text: "false\n"},
		{lang: "sh", text: "false | true\n"},
		{lang: "sh background", info: "background", text: "sleep 1\nsleep 2\n"},
		{lang: "sh", info: "background", text: "false\n"},
		{lang: "sh", info: "by hand", text: "presenced --no-such-flag\n"},
		{lang: "sh", info: "by hand", text: "presencectl no-such-command\n"},
		{lang: "sh", info: "by hand", text: "presencectl get --all\n"},
		{lang: "sh", info: "by hand", text: "if\n"},
		{lang: "output", text: "alice OFFLINE\n"},
		{lang: "output", text: "bob OFFLINE\nalice ONLINE\n"},
		{lang: "output", info: "watch alice", text: "alice ONLINE\n"},
		{lang: "go", text: "c, err := client.New(1)\n"},
		{lang: "go", text: "err := errors.New(\"it fails\")\n"},
		{lang: "json", text: `{"code":404,}`},
		{lang: "conf", text: "jetstream {\n"},
	} {
		before := box.printed
		if err := box.do(t, b); err == nil {
			t.Errorf("the block %+v was found to be right", b)
		}
		box.printed = before
	}
	for _, b := range []block{
		{lang: "output", text: "alice  ONLINE  in a meeting\n"},
		{lang: "output", text: "bob OFFLINE 5m\n"},
		{lang: "sh", info: "by hand", text: "presencectl get alice --fresh # as ever\n"},
	} {
		if err := box.do(t, b); err != nil {
			t.Errorf("the block %+v: %v", b, err)
		}
	}
}

// TestRefuses_Lines: lines that a watcher prints and nobody shows are found, too.
func TestRefuses_Lines(t *testing.T) {
	o := &output{}
	if _, err := o.Write([]byte("presencectl: watching\nNov 30 07:15:02  alice  ONLINE  -\nNov 30 07:15:03  alice  OFFLINE  -\n")); err != nil {
		t.Fatal(err)
	}
	if err := awaitShown("alice ONLINE\nalice ONLINE away\nalice OFFLINE\n", o, time.Second); err != nil {
		t.Errorf("a line that was left out: %v", err)
	}
	if err := awaitShown("alice OFFLINE\n", o, time.Second); err == nil {
		t.Error("a line that is not shown was not found")
	}
	if err := awaitShown("alice OFFLINE\nalice ONLINE\n", o, time.Second); err == nil {
		t.Error("lines in another order were not found")
	}
}

// TestRefuses_Links: links that lead nowhere are found, and so are blocks without a fence.
func TestRefuses_Links(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made-up.md")
	text := "# The `title`, and more\n\n    indented\n\n- item\n\n    of the item\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d := parse(t, path)
	for link, want := range map[string]bool{"#the-title-and-more": true, "#title": false, "made-up.md": true, "made-up.md#no": false, "other.md": false} {
		if err := d.resolve(t, link); (err == nil) != want {
			t.Errorf("%s: got %v, want that it leads somewhere: %v", link, err, want)
		}
	}
	for i, l := range d.lines {
		if want := l.text == "    indented"; d.isCode(i) != want {
			t.Errorf("isCode(%q): got %v", l.text, !want)
		}
	}
}
