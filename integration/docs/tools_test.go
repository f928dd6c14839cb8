package docs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// tools are stand-ins for programs that the documents use and that need not be installed.
// They do the same as far as the documents go; they take their arguments and return the
// exit code.
var tools = map[string]func(args []string) int{"nats": natsTool, "curl": curlTool, "make": makeTool}

func failed(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// natsTool does "nats req SUBJECT BODY" and "nats sub SUBJECT". Other than the nats
// command it fails where the answer is an error, so that the test notices.
func natsTool(args []string) int {
	if len(args) < 2 {
		return failed(fmt.Errorf("the stand-in of nats does not know %q", args))
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return failed(err)
	}
	defer nc.Close()
	switch {
	case args[0] == "req" && len(args) == 3:
		return failed(ask(nc, args[1], args[2]))
	case args[0] == "sub" && len(args) == 2:
		return failed(listen(nc, args[1]))
	case args[0] == "service" && args[1] == "info":
		return failed(ask(nc, "$SRV.INFO."+args[2], ""))
	}
	return failed(fmt.Errorf("the stand-in of nats does not know %q", args))
}

func ask(nc *nats.Conn, subject, body string) error {
	m, err := nc.Request(subject, []byte(body), 10*time.Second)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	fmt.Printf("%s\n", m.Data)
	if e := m.Header.Get("Nats-Service-Error"); e != "" {
		return errors.New(e)
	}
	return nil
}

// listen prints messages until it is interrupted.
func listen(nc *nats.Conn, subject string) error {
	messages := make(chan *nats.Msg, 64)
	if _, err := nc.ChanSubscribe(subject, messages); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("Subscribing on", subject)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	for {
		select {
		case m := <-messages:
			fmt.Printf("Received on %q\n%s\n", m.Subject, m.Data)
		case <-stop:
			return nil
		}
	}
}

// curlTool prints what an address answers.
func curlTool(args []string) int {
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "http://") })
	if i < 0 {
		return failed(fmt.Errorf("the stand-in of curl does not know %q", args))
	}
	resp, err := http.Get(args[i])
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return failed(err)
	}
	if resp.StatusCode != http.StatusOK && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") && strings.Contains(a, "f") }) {
		return failed(errors.New(resp.Status))
	}
	return 0
}

// makeTool does what "make run" says that it does, but with the commands that are built
// already. Of any other target it checks that it is there.
func makeTool(args []string) int {
	real := exec.Command(cmp.Or(os.Getenv("DOCS_MAKE"), "make"), append([]string{"-n", "-C", os.Getenv("DOCS_ROOT")}, args...)...)
	out, err := real.CombinedOutput()
	if err != nil {
		return failed(fmt.Errorf("make -n %s: %w\n%s", strings.Join(args, " "), err, out))
	}
	if len(args) != 1 || args[0] != "run" {
		return 0
	}
	const run = "bin/presenced --data data --demo"
	if !strings.Contains(string(out), "\n"+run+"\n") {
		return failed(fmt.Errorf("make run does not do %q:\n%s", run, out))
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return failed(err)
	}
	// In the place of this process, so that a signal to it ends the service.
	return failed(syscall.Exec(bash, []string{"bash", "-c", "exec " + run},
		append(os.Environ(), "PRESENCED_HTTP="+os.Getenv("DOCS_HTTP"), "PRESENCED_WEBSOCKET="+os.Getenv("DOCS_WEBSOCKET"))))
}
