-- SPDX-License-Identifier: Apache-2.0
--
-- Database and users of Keelson. Put passwords in place, then, as an administrator:
--
--	mariadb < etc/mariadb/keelson.sql
--
-- It may be run again. The first user is for `keelsond db sync`, which changes
-- tables; the second is for the services, which only change rows. One user with
-- the rights of the first does as well.

CREATE DATABASE IF NOT EXISTS keelson CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE USER IF NOT EXISTS 'keelson_schema'@'%' IDENTIFIED BY 'CHANGE-ME-1';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON keelson.* TO 'keelson_schema'@'%';

CREATE USER IF NOT EXISTS 'keelson'@'%' IDENTIFIED BY 'CHANGE-ME-2';
GRANT SELECT, INSERT, UPDATE, DELETE ON keelson.* TO 'keelson'@'%';
