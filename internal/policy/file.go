// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// maxFileSize bounds a policy file; the complete sample has about 15 KB.
const maxFileSize = 1 << 20

func readFile(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	return parseFile(content, filepath.Ext(path) == ".json")
}

// parseFile reads a mapping of rule names to check strings.
func parseFile(content []byte, isJSON bool) (map[string]string, error) {
	if len(content) > maxFileSize {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileSize)
	}
	if isJSON {
		return parseJSON(content)
	}
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(content, &nodes); err != nil {
		return nil, err
	}
	rules := make(map[string]string, len(nodes))
	for name, node := range nodes {
		check, err := checkString(&node)
		if err != nil {
			return nil, fmt.Errorf("line %d: rule %q: %w", node.Line, name, err)
		}
		rules[name] = check
	}
	return rules, nil
}

// checkString insists on a string. In oslo.policy a rule without a value lets
// everybody pass, which nobody means who leaves it empty.
func checkString(node *yaml.Node) (string, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node.Kind == yaml.SequenceNode:
		return "", errors.New("the list syntax is not supported, write \"role:a or role:b\"")
	case node.Kind != yaml.ScalarNode || node.ShortTag() == "!!null":
		return "", errors.New("a check string is missing; write \"@\" for everybody, \"!\" for nobody")
	case node.ShortTag() != "!!str":
		return "", fmt.Errorf("%s is not a check string", node.Value)
	}
	return node.Value, nil
}

func parseJSON(content []byte) (map[string]string, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return map[string]string{}, nil
	}
	var values map[string]any
	if err := json.Unmarshal(content, &values); err != nil {
		return nil, err
	}
	rules := make(map[string]string, len(values))
	for name, value := range values {
		check, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("rule %q: its value is not a string (the list syntax is not supported)", name)
		}
		rules[name] = check
	}
	return rules, nil
}
