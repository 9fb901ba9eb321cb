// SPDX-License-Identifier: Apache-2.0

package refusal

import (
	"encoding/json"
	"net/http"
)

// maxQuestion is more than Docker sends: 1 MB of body in base64, and headers.
const maxQuestion = 4 << 20

// Plugin returns a Docker authorization plugin: dockerd asks it before each
// request and after.
// https://docs.docker.com/engine/extend/plugins_authorization/
func Plugin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"Implements": []string{"authz"}})
	})
	mux.HandleFunc("POST /AuthZPlugin.AuthZReq", func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			RequestMethod string
			RequestURI    string `json:"RequestUri"`
			RequestBody   []byte
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(&question); err != nil {
			answer(w, map[string]any{"Err": "keelson-authz: dockerd's question can not be read: " + err.Error()})
			return
		}
		if refused := Check(question.RequestMethod, question.RequestURI, question.RequestBody); refused != nil {
			answer(w, map[string]any{"Allow": false, "Msg": refused.Error()})
			return
		}
		answer(w, map[string]any{"Allow": true})
	})
	mux.HandleFunc("POST /AuthZPlugin.AuthZRes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"Allow": true})
	})
	return mux
}

func answer(w http.ResponseWriter, content map[string]any) {
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.1+json")
	_ = json.NewEncoder(w).Encode(content) // dockerd asks again when the answer is lost
}
