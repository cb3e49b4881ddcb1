// Texts to begin with, each with something else to see.

export const EXAMPLES = [
  {
    label: "To the Moon",
    text:
      "In 1969 Apollo 11 took Neil Armstrong and Buzz Aldrin to the Moon. Kennedy, who had promised it at Rice University in Houston, did not live "
      + "to see it. Ryan Gosling played Armstrong in First Man; Houston is still the home of NASA's mission control, and of the Houston Rockets.",
  },
  {
    label: "Same names",
    text:
      "Paris Hilton flew to Paris, and Michael Jordan to Jordan. Neil Armstrong walked on the Moon, Louis Armstrong sang about the world, "
      + "and Lance Armstrong rode a bicycle through France. Freddie Mercury, of course, sang with Queen.",
  },
  {
    label: "News",
    text:
      "Apple and Microsoft both said on Tuesday that they would build data centres in Ireland. Tim Cook met Leo Varadkar in Dublin, while "
      + "Satya Nadella spoke to the Financial Times in London. The European Union had fined Apple in 2018, and Cook called it unfair.",
  },
  {
    label: "Football",
    text:
      "Barcelona lost to Manchester City at Wembley. Messi, who had left Barcelona for Paris Saint-Germain, did not watch it. "
      + "Pep Guardiola said that City had learned more from Bayern Munich than from Real Madrid.",
  },
  {
    label: "Film and music",
    text:
      "Hans Zimmer wrote the music for Inception and Interstellar, both by Christopher Nolan. David Bowie played Nikola Tesla in The Prestige, "
      + "long after Ziggy Stardust, and Bob Geldof asked him, Elton John and U2 to play at Wembley Stadium.",
  },
  { label: "A question", text: "did freddie mercury and david bowie write under pressure in switzerland" },
  {
    label: "Long text",
    text: [
      "The race to the Moon began with a beep. In October 1957 the Soviet Union sent Sputnik 1 around the Earth, and within weeks America spoke "
        + "of little else. Dwight D. Eisenhower founded NASA the next year. Wernher von Braun, who had built rockets for Germany in the Second World War, "
        + "built them in Alabama now; his rival Sergei Korolev was a name that nobody outside Moscow was allowed to know.",
      "Yuri Gagarin was first. In April 1961 he saw the Earth from above, and came down in a field near the Volga. Three weeks later Alan Shepard flew "
        + "for the United States, if only for a quarter of an hour. John F. Kennedy went to Congress and asked for the Moon. In Houston, at Rice "
        + "University, he asked again, before a crowd that would rather have talked about football and Texas.",
      "Valentina Tereshkova circled the planet in 1963. Kennedy was shot in Dallas that November, and Lyndon B. Johnson, a Texan, kept the promise. "
        + "Gagarin died in 1968 in the crash of a training jet. At Christmas of that year three Americans flew around the Moon and read from the Bible.",
      "Stanley Kubrick had shown it to everyone before. He made 2001: A Space Odyssey with Arthur C. Clarke in studios near London, and MGM feared for its "
        + "money. David Bowie watched it, went home and wrote Space Oddity. The BBC did not play the song until the crew was safely back.",
      "The crew was that of Apollo 11. Neil Armstrong, Buzz Aldrin and Michael Collins left Florida on 16 July 1969. Armstrong set the lander down with "
        + "fuel for a few seconds more. Richard Nixon called them from the White House. Collins, alone in orbit, wrote later that he had not felt lonely. "
        + "Aldrin said that the Moon was a magnificent desolation.",
      "Apollo 13 did not land. Its tank burst, and Houston brought the crew home with tape and cardboard. Tom Hanks played its commander when Ron Howard "
        + "made the film in 1995; Hanks had wanted to be an astronaut, and Steven Spielberg had taught him to wait for a good part.",
      "Since then people have stayed closer to home. The Hubble Space Telescope, the International Space Station and the rovers on Mars took the money. "
        + "China landed on the far side of the Moon, India near its south pole. Elon Musk wants SpaceX to go to Mars, Jeff Bezos wants Blue Origin "
        + "to go to the Moon, and NASA has hired both.",
    ].join("\n\n"),
  },
];
