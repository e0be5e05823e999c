#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"

/*
 * Whole sessions as a client sends them, commands and contents in one stream. On the right hand side stands
 * what the parsers make of it; each event begins with the place in the stream up to which it was taken.
 */

static void check(const char *client, const char *events)
{
    cuts_expect(transcript_run_server, client, strlen(client), 500, events);
}

static void test_one_message(void **state)
{
    check("EHLO client.example\r\n"
          "MAIL FROM:<a@client.example> SIZE=60 BODY=8BITMIME\r\n"
          "RCPT TO:<b@server.example>\r\n"
          "DATA\r\n"
          "Received: from nowhere\r\n"
          "Subject: dots\r\n"
          "\r\n"
          "..\r\n"
          "..stuffed\r\n"
          ".\r\n"
          "QUIT\r\n",
          "21 EHLO argument=[client.example]\n"
          "73 MAIL path=[a@client.example] local=[a] domain=[client.example] size=60 body=8BITMIME\n"
          "101 RCPT path=[b@server.example] local=[b] domain=[server.example]\n"
          "107 DATA\n"
          "166 content size=56 dots=1 high=0 received=1 delivered_to=0 header=1\n"
          "Received: from nowhere\r\nSubject: dots\r\n\r\n..\r\n..stuffed\r\n"
          "172 QUIT\n");
}

static void test_short_sessions(void **state)
{
    check("DATA\r\n.\r\nQUIT\r\n", "6 DATA\n"
                                   "9 content size=0 dots=0 high=0 received=0 delivered_to=0 header=0\n"
                                   "15 QUIT\n");
    check("DATA\r\n..\r\n.\r\nDATA\r\na\r\n.\r\nx\r\n",
          "6 DATA\n"
          "13 content size=4 dots=1 high=0 received=0 delivered_to=0 header=1\n"
          "..\r\n"
          "19 DATA\n"
          "25 content size=3 dots=0 high=0 received=0 delivered_to=0 header=1\n"
          "a\r\n"
          "28 500 5.5.2 command not recognized\r\n");
    check("DATA x\r\n.\r\n", "8 501 5.5.4 this command takes no argument\r\n"
                             "11 500 5.5.2 command not recognized\r\n");
}

/* The client that gets everything wrong goes on reading its refusals. */
static void test_refusals_do_not_end_the_session(void **state)
{
    check("HELLO\r\nEHLO\r\nehlo x\r\nMAIL FROM:a@b\r\nMAIL FROM:<a@b> SIZE=x\r\nRCPT "
          "TO:<b>\r\nSTARTTLS\r\nquit\r\n",
          "7 500 5.5.2 command not recognized\r\n"
          "13 501 5.5.4 syntax: EHLO or HELO, then your host name\r\n"
          "21 EHLO argument=[x]\n"
          "36 501 5.5.4 syntax: MAIL FROM:<address> [parameters]\r\n"
          "60 501 5.5.4 SIZE needs a number of at most 20 digits\r\n"
          "73 501 5.1.3 recipient address has bad syntax\r\n"
          "83 502 5.5.1 command not implemented\r\n"
          "89 QUIT\n");
}

/* A second message that hides in the first: no cut of the stream may bring it to light. */
static void test_smuggled_message(void **state)
{
    check("DATA\r\nSubject: one\r\n\r\nhello\n.\r\nMAIL FROM:<ceo@b>\r\nRCPT "
          "TO:<c@d>\r\nDATA\r\nhidden\r\n.\r\n",
          "6 DATA\n28 bare LF in content\n");
    check("DATA\r\nSubject: one\r\n\r\nhello\r\n.\rMAIL FROM:<ceo@b>\r\n.\r\n",
          "6 DATA\n31 bare CR in content\n");
}

static void test_pipelined_messages(void **state)
{
#define ENVELOPE "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    check(ENVELOPE "one\r\n.\r\n" ENVELOPE "two\xe9\r\n.\r\n" ENVELOPE ".\r\nRSET\r\n",
          "17 MAIL path=[a@b] local=[a] domain=[b]\n32 RCPT path=[c@d] local=[c] domain=[d]\n38 DATA\n"
          "46 content size=5 dots=0 high=0 received=0 delivered_to=0 header=1\none\r\n"
          "63 MAIL path=[a@b] local=[a] domain=[b]\n78 RCPT path=[c@d] local=[c] domain=[d]\n84 DATA\n"
          "93 content size=6 dots=0 high=1 received=0 delivered_to=0 header=1\ntwo\xe9\r\n"
          "110 MAIL path=[a@b] local=[a] domain=[b]\n125 RCPT path=[c@d] local=[c] domain=[d]\n131 DATA\n"
          "134 content size=0 dots=0 high=0 received=0 delivered_to=0 header=0\n"
          "140 RSET\n");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_message),
        cmocka_unit_test(test_short_sessions),
        cmocka_unit_test(test_refusals_do_not_end_the_session),
        cmocka_unit_test(test_smuggled_message),
        cmocka_unit_test(test_pipelined_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
