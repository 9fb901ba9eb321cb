// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Shells by the name that --shell takes. sh is every shell that reads as
// POSIX says.
var shells = []string{"bash", "zsh", "sh", "fish", "powershell", "cmd", "tcsh"}

// variables that docker, docker compose and docker-compose read, and one that
// tells the user's prompt where they are.
var variables = []string{"DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH", "KEELSON_CLUSTER_NAME"}

func (a *app) envCommand() *cobra.Command {
	var shell, dir string
	var unset bool
	c := &cobra.Command{
		Use:   "env CLUSTER",
		Short: "Print what points Docker at a cluster, for the shell to run",
		Long: `Print what points Docker at a cluster, for the shell to run. Credentials that were saved
earlier are used as long as the cluster takes them; else new ones are made, as with
keelson credentials.`,
		Example: `  eval "$(keelson env demo)"                                        # bash, zsh, sh
  keelson env demo | source                                         # fish
  keelson env demo | Out-String | Invoke-Expression                 # PowerShell
  @FOR /f "tokens=*" %i IN ('keelson env demo --shell cmd') DO @%i  # cmd
  eval "$(keelson env --unset)"`,
		Args: func(c *cobra.Command, args []string) error {
			if unset {
				return noArguments(c, args)
			}
			return oneArgument(c, args)
		},
		ValidArgsFunction: a.completeClusters,
	}
	c.Flags().StringVar(&shell, "shell", "", "shell that will run it: "+strings.Join(shells, ", ")+" (default: the one that runs keelson)")
	c.Flags().StringVarP(&dir, "dir", "d", "", "use the credentials in this directory")
	c.Flags().BoolVarP(&unset, "unset", "u", false, "print what takes it back")
	_ = c.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp))
	_ = c.MarkFlagDirname("dir")
	c.RunE = func(c *cobra.Command, args []string) error {
		if shell == "" {
			shell = detectShell()
		}
		if shell == "pwsh" {
			shell = "powershell"
		}
		if !slices.Contains(shells, shell) {
			return usage("--shell %s: the shell is one of %s", shell, strings.Join(shells, ", "))
		}
		if unset {
			for _, v := range variables {
				_, _ = fmt.Fprintln(a.Out, unsetLine(shell, v))
			}
			return nil
		}
		got, err := a.usable(c, args[0], dir)
		if err != nil {
			return err
		}
		for _, v := range variables {
			value := map[string]string{
				"DOCKER_TLS_VERIFY": "1", "DOCKER_HOST": got.DockerHost, "DOCKER_CERT_PATH": got.dir, "KEELSON_CLUSTER_NAME": got.Name,
			}[v]
			_, _ = fmt.Fprintln(a.Out, setLine(shell, v, value))
		}
		if term.IsTerminal(int(a.Out.Fd())) {
			a.say("\nThis only printed it. Have the shell run it: %s", usual(shell, got.Name))
		}
		return nil
	}
	return c
}

// usable finds credentials that the cluster takes, or gets new ones.
func (a *app) usable(c *cobra.Command, ident, dir string) (*saved, error) {
	l, err := a.login()
	if err != nil {
		return nil, err
	}
	var old *saved
	var checked error
	if dir != "" {
		var n *note
		if n, err = readNote(dir); err == nil {
			old = &saved{note: *n}
			old.dir, err = filepath.Abs(dir)
		}
	} else {
		old, err = l.onShelf(ident)
	}
	if err == nil && (old.Name == ident || old.UUID == ident) {
		if checked = old.check(c.Context()); checked == nil {
			return old, nil
		}
	}
	s, err := a.api(c.Context())
	if err != nil {
		return nil, err
	}
	cluster, err := s.cluster(c.Context(), ident)
	if err != nil {
		return nil, err
	}
	// A cluster that can not be reached from here does not get better by new
	// credentials, unless it moved.
	if errors.Is(checked, errUnreachable) && cluster.UUID == old.UUID && given(cluster.APIAddress) == old.DockerHost {
		a.say("keelson: %v", checked)
		return old, nil
	}
	if dir == "" {
		if dir, err = l.shelf(cluster.Name, cluster.UUID, ident); err != nil {
			return nil, err
		}
	}
	return s.credentials(c.Context(), cluster, dir, 0)
}

// setLine sets a variable for what the shell starts from now on. Lines may
// also be run one after the other without their ends.
func setLine(shell, name, value string) string {
	switch shell {
	case "fish":
		return "set -gx " + name + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "';"
	case "powershell":
		// PowerShell takes typographic quotes for straight ones.
		quoted := strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(value)
		return "$Env:" + name + " = '" + quoted + "'"
	case "cmd":
		return `SET "` + name + "=" + value + `"`
	case "tcsh":
		return "setenv " + name + " " + tcshQuote(value) + ";"
	}
	return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "';"
}

// tcshQuote also keeps ! from being taken for history.
func tcshQuote(value string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `\!`).Replace(value) + "'"
}

func unsetLine(shell, name string) string {
	switch shell {
	case "fish":
		return "set -e " + name + ";"
	case "powershell":
		return `Remove-Item -ErrorAction SilentlyContinue Env:\` + name
	case "cmd":
		return `SET "` + name + `="`
	case "tcsh":
		return "unsetenv " + name + ";"
	}
	return "unset " + name + ";"
}

// usual is the command that has the shell run what env prints.
func usual(shell, cluster string) string {
	switch shell {
	case "fish":
		return "keelson env " + cluster + " | source"
	case "powershell":
		return "keelson env " + cluster + " | Out-String | Invoke-Expression"
	case "cmd":
		return `@FOR /f "tokens=*" %i IN ('keelson env ` + cluster + ` --shell cmd') DO @%i`
	case "tcsh":
		return "eval `keelson env " + cluster + "`"
	}
	return `eval "$(keelson env ` + cluster + `)"`
}

// detectShell is the shell that runs this command: the nearest process above
// that is one, where the system tells; else the user's own.
func detectShell() string {
	for pid := os.Getppid(); pid > 1; {
		name, parent, ok := process(pid)
		if !ok {
			break
		}
		if s := shellName(name); s != "" {
			return s
		}
		pid = parent
	}
	if s := shellName(filepath.Base(os.Getenv("SHELL"))); s != "" {
		return s
	}
	if runtime.GOOS == "windows" {
		// Only PowerShell adds the user's own modules.
		if paths := filepath.SplitList(os.Getenv("PSModulePath")); len(paths) > 2 {
			return "powershell"
		}
		return "cmd"
	}
	return "sh"
}

// shellName is the shell's name for --shell; "" if it is none that is known.
func shellName(process string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(strings.ToLower(process), "-"), ".exe")
	switch name {
	case "dash", "ash", "ksh", "mksh", "busybox":
		return "sh"
	case "pwsh":
		return "powershell"
	case "csh":
		return "tcsh"
	}
	if slices.Contains(shells, name) {
		return name
	}
	return ""
}

// process tells a process's name and parent, on systems with /proc.
func process(pid int) (name string, parent int, ok bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, false
	}
	stat := string(text)
	from, to := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", 0, false
	}
	fields := strings.Fields(stat[to+1:])
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return stat[from+1 : to], parent, err == nil
}
